"""From text deltas to paced speech."""
