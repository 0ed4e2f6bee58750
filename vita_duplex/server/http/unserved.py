"""Addresses that nobody serves: whoever asks for one is told what is served."""

import logging

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse

from vita_duplex.server.errors import error_body
from vita_duplex.server.observe.metrics import Metrics

log = logging.getLogger(__name__)

LONGEST_LOGGED = 200
"""Characters of an address in the log; a client writes it."""


def served(app: FastAPI) -> str:
    """All that is in the description of the API, and the WebSocket, which cannot be there."""
    paths = app.openapi()["paths"]
    described = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    return ", ".join(["WebSocket /v1/realtime", "WebSocket /v1/telephony/twilio", *described])


def not_served(app: FastAPI, what: str) -> str:
    """What a client is told that asked for something else."""
    return f"{what} is not served here. Served are: {served(app)}."


def refuse_other_sockets(app: FastAPI, metrics: Metrics) -> None:
    """Answer 404 to a WebSocket on any address that has none so far, and log the address."""

    @app.websocket("/{path:path}")
    async def elsewhere(socket: WebSocket) -> None:
        path = socket.scope["path"][:LONGEST_LOGGED]
        log.warning("a WebSocket for %r is refused: there is none but /v1/realtime", path)
        metrics.refusal("not_found")
        body = error_body("not_found", not_served(app, f"WebSocket {path}"))
        await socket.send_denial_response(JSONResponse(body, 404))
