"""HTTP bodies are bounded: whoever sends more is answered 413 before it is in memory."""

from contextlib import suppress

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vita_duplex.server.access.limits import MESSAGE_LIMIT
from vita_duplex.server.errors import error_body


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
        received, started = 0, False

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MESSAGE_LIMIT:
                raise _TooLarge
            return message

        async def unless_too_large(message: Message) -> None:
            nonlocal started
            if received <= MESSAGE_LIMIT or started:
                started = True
                await send(message)

        with suppress(_TooLarge):
            await self._app(scope, bounded, unless_too_large)
        if received > MESSAGE_LIMIT and not started:  # FastAPI takes the exception for a broken body and answers 400
            body = error_body("body_too_large", f"At most {MESSAGE_LIMIT} bytes are taken.")
            await JSONResponse(body, 413, {"Connection": "close"})(scope, receive, send)
