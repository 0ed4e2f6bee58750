"""Recordings as people bring them, read in one place."""
