"""Continual training of VITA: data, labels, the model for `transformers`' Trainer, and checkpoints out of it."""
