"""Formats and rates of sound at the edge."""
