"""HTTP bodies are bounded: whoever sends more is answered 413 before it is in memory."""

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vita_duplex.server.limits import MESSAGE_LIMIT
from vita_duplex.server.server_events import error_body


class _TooLarge(Exception):
    """More came than is allowed."""


class BodyLimit:
    """ASGI middleware. Counts what comes, for a client need not say, or may lie, about the length."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MESSAGE_LIMIT:
                raise _TooLarge
            return message

        try:
            await self._app(scope, bounded, send)
        except _TooLarge:
            body = error_body("body_too_large", f"At most {MESSAGE_LIMIT} bytes are taken.")
            await JSONResponse(body, 413, {"Connection": "close"})(scope, receive, send)
