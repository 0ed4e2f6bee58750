"""The outermost layer of the application: what each address may try, and the headers that every answer carries."""

import asyncio
from collections.abc import Callable

from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vita_duplex.server.access.arrivals import Arrivals
from vita_duplex.server.errors import Refusal, error_body

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'self'",  # a page's <meta> cannot say it
    "Permissions-Policy": "camera=(self), display-capture=(self), microphone=(self), geolocation=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer. Scripts of allowed origins that use fetch are not touched by the last one (Fetch standard, 3.7)."""
REFUSED = (401, 403)
STARTS = ("http.response.start", "websocket.http.response.start")


class Gate:
    """ASGI middleware. `refused` is told the code of each refusal."""

    def __init__(self, app: ASGIApp, arrivals: Arrivals, refused: Callable[[str], None]) -> None:
        self._app = app
        self._arrivals = arrivals
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        address = client[0] if (client := scope.get("client")) else None

        async def with_headers(message: Message) -> None:
            if message["type"] in STARTS:
                MutableHeaders(scope=message).update(HEADERS)
                if message["status"] in REFUSED and scope["type"] == "http":  # a handshake was counted as it came
                    self._arrivals.count(address, clock())
            await send(message)

        is_socket = scope["type"] == "websocket"
        refusal = self._arrivals.open(address, clock()) if is_socket else self._arrivals.refusal(address, clock())
        if refusal:
            self._refused(refusal.code)
            await _too_many(refusal)(scope, receive, with_headers)
            return
        try:
            await self._app(scope, receive, with_headers)
        finally:
            if is_socket:
                self._arrivals.close(address, clock())


def _too_many(refusal: Refusal) -> JSONResponse:
    wait = refusal.retry_after_s
    headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
    return JSONResponse(error_body(refusal.code, refusal.message), 429, headers)
