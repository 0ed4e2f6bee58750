"""The HTTP application: its routes, who may use them, the page, and the WebSocket endpoint."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from vita_duplex import __version__
from vita_duplex.server.access.auth import Caller, credentials
from vita_duplex.server.access.gate import Gate
from vita_duplex.server.http import (
    chat,
    client_secrets,
    errors,
    instances,
    pages,
    responses,
    speech,
    status,
    transcription,
    verdict,
)
from vita_duplex.server.http.body_limit import BodyLimit
from vita_duplex.server.http.root_path import RootPath
from vita_duplex.server.http.unserved import refuse_other_sockets
from vita_duplex.server.realtime.visit import visit
from vita_duplex.server.server import Server
from vita_duplex.server.telephony import audiosocket, calls
from vita_duplex.server.verdict.conversation import VerdictConversation
from vita_duplex.server.webrtc import calls as webrtc

DESCRIPTION = """
Talk with a multimodal model that listens while it speaks.

Conversations go over a WebSocket, which OpenAPI cannot describe: `/v1/realtime` speaks the events of OpenAI
Realtime GA.
Where the server has API keys, send one as `Authorization: Bearer …`; browsers, which cannot, send an ephemeral one as
the subprotocol `openai-insecure-api-key.…`.
"""


def create_app(server: Server) -> FastAPI:
    """The application around a server that is not loaded yet."""

    peers = webrtc.Calls(server)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        loading = asyncio.create_task(server.run(), name="load")
        async with audiosocket.listening(server), webrtc.closing(peers):
            yield
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        if server.parts:
            server.parts.close()

    app = FastAPI(
        title="vita-duplex",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
        root_path=server.config.server.root_path,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(Gate, arrivals=server.arrivals, refused=server.metrics.refusal)
    if allowed := server.access.origins:  # answers preflights, before anybody is asked for a key
        exposed = ["Retry-After", "WWW-Authenticate"]
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allowed),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=exposed,
        )
    if root_path := server.config.server.root_path:
        app.add_middleware(RootPath, root_path=root_path)
    errors.answer_errors(app, server.metrics)
    _add_routes(app, server, peers)
    return app


def _add_routes(app: FastAPI, server: Server, peers: webrtc.Calls) -> None:
    async def caller(request: Request, _: Annotated[Any, Depends(HTTPBearer(auto_error=False))] = None) -> Caller:
        """Who asks; an ephemeral key will not do."""
        return server.access.admit(credentials(request.scope["headers"]), time.time(), ephemeral=False)

    async def any_caller(request: Request, _: Annotated[Any, Depends(HTTPBearer(auto_error=False))] = None) -> Caller:
        """Who asks, also with an ephemeral key: what browsers use."""
        return server.access.admit(credentials(request.scope["headers"]), time.time())

    @app.websocket("/v1/realtime/")
    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        await visit(server, socket)

    @app.websocket("/v1/verdict")
    async def verdicts(socket: WebSocket) -> None:
        await visit(server, socket, VerdictConversation)

    app.include_router(calls.router(server))
    app.include_router(webrtc.router(server, peers, any_caller))
    app.include_router(status.router(server, caller))
    app.include_router(client_secrets.router(server, caller))
    app.include_router(instances.router(server, caller))
    app.include_router(chat.router(server, any_caller))
    app.include_router(responses.router(server, any_caller))
    app.include_router(speech.router(server, any_caller))
    app.include_router(transcription.router(server, any_caller))
    app.include_router(verdict.router(server, any_caller))
    refuse_other_sockets(app, server.metrics)
    pages.add_pages(app)
