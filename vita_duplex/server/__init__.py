"""The outside: HTTP, WebSocket, pages and the command line."""
