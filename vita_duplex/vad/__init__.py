"""From microphone samples to utterances."""
