"""What a client is told when something is not done: over the WebSocket and over HTTP. Pure."""

from dataclasses import dataclass
from typing import Any


class ClientError(Exception):
    """The client sent nonsense. It is told; the session goes on."""

    def __init__(self, code: str, message: str, *, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.event_id = event_id


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client gets no session and no answer now."""

    code: str
    message: str
    retry_after_s: float | None = None


def error_body(
    code: str, message: str, param: str | None = None, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    """The body of an HTTP answer."""
    return {"error": {"type": kind, "code": code, "message": message, "param": param}}
