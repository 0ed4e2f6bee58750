"""The mind of the CPU default: words are heard, judged and answered by a text model."""
