"""A real-time, duplex speech server for VITA on vLLM."""

__version__ = "0.1.0"
