"""The HTTP application: health, metrics, models, keys, the page, and the WebSocket endpoint."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from vita_duplex import __version__
from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.access.auth import Caller, Denied, credentials
from vita_duplex.server.errors import ClientError, error_body
from vita_duplex.server.http import chat, client_secrets, instances, reference, speech
from vita_duplex.server.http.body_limit import BodyLimit
from vita_duplex.server.http.places import ClientLeft, NoPlace
from vita_duplex.server.realtime.visit import visit
from vita_duplex.server.server import Server

STATIC = Path(__file__).parents[1] / "static"
FRESH = {"Cache-Control": "no-cache"}
"""Browsers ask whether a file has changed: after an upgrade no page runs on a mixture of versions."""
CLIENT_CLOSED_REQUEST = 499
"""Not in the RFCs, nginx's: it reaches nobody but the access log."""
DESCRIPTION = """
Talk with a multimodal model that listens while it speaks.

Conversations go over a WebSocket, which this page cannot show: `/v1/realtime` speaks the events of OpenAI Realtime GA.
Where the server has API keys, send one as `Authorization: Bearer …`; browsers, which cannot, send an ephemeral one as
the subprotocol `openai-insecure-api-key.…`.
"""


class FreshFiles(StaticFiles):
    """Static files that browsers check before they use their copy."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def create_app(server: Server) -> FastAPI:
    """The application around a server that is not loaded yet."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        loading = asyncio.create_task(server.run(), name="load")
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
    )
    app.add_middleware(BodyLimit)

    async def caller(request: Request, _: Annotated[Any, Depends(HTTPBearer(auto_error=False))] = None) -> Caller:
        """Who asks; an ephemeral key will not do."""
        return server.access.admit(credentials(request.scope["headers"]), time.time(), ephemeral=False)

    async def any_caller(request: Request, _: Annotated[Any, Depends(HTTPBearer(auto_error=False))] = None) -> Caller:
        """Who asks, also with an ephemeral key: what browsers use."""
        return server.access.admit(credentials(request.scope["headers"]), time.time())

    @app.exception_handler(Denied)
    async def denied(_: Request, denied: Denied) -> JSONResponse:
        server.metrics.refusal(denied.code)
        return JSONResponse(error_body(denied.code, denied.message), denied.status, denied.headers)

    @app.exception_handler(NoPlace)
    async def no_place(_: Request, none: NoPlace) -> JSONResponse:
        server.metrics.refusal(none.refusal.code)
        kind = "server_error" if none.status >= 500 else "invalid_request_error"
        body = error_body(none.refusal.code, none.refusal.message, kind=kind)
        return JSONResponse(body, none.status, none.headers)

    @app.exception_handler(ClientError)
    async def nonsense(_: Request, error: ClientError) -> JSONResponse:
        return JSONResponse(error_body(error.code, error.message, error.param), 400)

    @app.exception_handler(PartFailed)
    async def part_failed(_: Request, failure: PartFailed) -> JSONResponse:
        return JSONResponse(error_body("part_failed", str(failure), kind="server_error"), 503)

    @app.exception_handler(ClientLeft)
    async def left(_: Request, __: ClientLeft) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(HTTPException)
    async def otherwise(_: Request, error: HTTPException) -> JSONResponse:
        """What FastAPI refuses by itself: no such path, a body that is no JSON."""
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return JSONResponse(error_body(code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse(error_body("invalid_value", f"{param}: {first['msg']}", param), 400)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok", "version": __version__}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, Any]:
        """Whether sessions are served, and which parts work; 503 while loading, draining, or without a part."""
        is_ready, parts = await server.readiness()
        response.status_code = 200 if is_ready else 503
        loading = {"progress": server.loading.progress, "phase": server.loading.phase, "error": server.loading.error}
        left = server.drain.seconds_left(asyncio.get_running_loop().time())
        return {"ready": is_ready, "parts": parts, "loading": loading, "draining_s": left}

    @app.get("/metrics", dependencies=[Depends(caller)])
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(server.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")

    @app.get("/v1/models", dependencies=[Depends(caller)])
    async def models() -> dict[str, Any]:
        """The models, in OpenAI's list form, and what each takes; the first is for clients that name none."""
        engines = {server.config.model_name: server.config.engine, **server.config.models}
        fields = {"object": "model", "created": 0, "owned_by": "vita-duplex"}
        listed = [{"id": name, **fields, "input_modalities": engine.modalities} for name, engine in engines.items()]
        return {"object": "list", "data": listed}

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference.page(app.openapi()))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=FRESH)

    @app.get("/ability", include_in_schema=False)
    async def ability() -> FileResponse:
        return FileResponse(STATIC / "ability.html", headers=FRESH)

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        await visit(server, socket)

    app.include_router(client_secrets.router(server, caller))
    app.include_router(instances.router(server, caller))
    app.include_router(chat.router(server, any_caller))
    app.include_router(speech.router(server, any_caller))
    app.mount("/static", FreshFiles(directory=STATIC), name="static")
    return app
