"""Of which session a task is: for log lines, and for routers below that keep a session's requests together."""

from contextvars import ContextVar

session_id: ContextVar[str] = ContextVar("session_id", default="")
"""Empty outside of sessions."""
