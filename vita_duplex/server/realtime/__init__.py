"""The WebSocket `/v1/realtime`."""
