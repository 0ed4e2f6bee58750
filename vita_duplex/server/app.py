"""The HTTP application: health, models, the page, and the WebSocket endpoint."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from fastapi import FastAPI, Response, WebSocket
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from vita_duplex import __version__
from vita_duplex.config import Config
from vita_duplex.engine.seams import PartFailed, Progress
from vita_duplex.engine.supervisor import Supervisor
from vita_duplex.server.gateway import Gateway
from vita_duplex.server.parts import Loading, Parts, load_parts
from vita_duplex.server.server_events import refusal

log = logging.getLogger(__name__)

Result = TypeVar("Result")

STATIC = Path(__file__).parent / "static"
FRESH = {"Cache-Control": "no-cache"}
"""Browsers ask whether a file has changed: after an upgrade no page runs on a mixture of versions."""
TRY_AGAIN_LATER = 1013
"""WebSocket close code (IANA registry): come back in a while."""


class Server:
    """What the endpoints share: the parts once they are there, how far they are until then, the sessions."""

    def __init__(self, config: Config, load: Callable[..., Parts] = load_parts) -> None:
        self.config = config
        self.loading = Loading()
        self.parts: Parts | None = None
        self.sessions = 0
        self.on_failure: Callable[[], None] = lambda: None
        self.on_progress: Progress = lambda share, phase: None
        self._load = load

    def progress(self, share: float, phase: str) -> None:
        if phase != self.loading.phase:
            log.info("%3.0f %% %s", 100 * share, phase)
        self.loading.progress, self.loading.phase = share, phase
        self.on_progress(share, phase)

    async def run(self) -> None:
        """Bring the parts up, then keep the engines running, until cancelled."""
        await self.bring_up()
        if self.parts:
            try:
                await Supervisor(self.parts.pool, _in_thread).run()
            except* Exception:  # as above; without it engines that die stay dead
                log.exception("watching the engines ended by a bug")

    async def bring_up(self) -> None:
        """Load the parts in a worker thread, so that the page can show how far they are."""
        try:
            parts = await _in_thread(lambda: self._load(self.config, self.progress))
            await parts.pool.warm()
            self.parts = parts
            self.progress(1.0, "ready")
        except PartFailed as failure:
            log.error("%s", failure)
            self._fail(str(failure))
        except Exception:  # nobody awaits this task while the server runs: a bug here must not look like slowness
            log.exception("loading ended by a bug")
            self._fail("internal error while loading")

    def _fail(self, reason: str) -> None:
        self.loading.error = reason
        self.on_failure()

    def refusal(self) -> tuple[str, str] | None:
        """Why no session can be opened now, as code and message."""
        if self.loading.error:
            return "server_failed", self.loading.error
        if self.parts is None:
            progress = f"{self.loading.phase} ({self.loading.progress:.0%})"
            return "server_loading", f"The server is not ready yet: {progress}; try again soon."
        if not any(instance.healthy for instance in self.parts.pool.instances):
            return "server_failed", "No engine is running; they are being started again. Try again soon."
        if self.sessions >= self.config.server.max_sessions:
            return "session_limit_reached", f"The server is full ({self.sessions} conversations); try again later."
        return None


class FreshFiles(StaticFiles):
    """Static files that browsers check before they use their copy."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Run in a thread of its own that dies with the process: Ctrl-C while models load ends at once."""
    done: Future[Result] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()  # from here on nobody can cancel it: it is done even if nobody waits
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(done)


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

    app = FastAPI(title="vita-duplex", version=__version__, lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok", "version": __version__}

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, Any]:
        """Whether a session would be served, and which parts work; one instance is enough. 503 until then."""
        parts = server.parts.health() if server.parts else {}
        is_ready = server.parts is not None and server.parts.ready
        response.status_code = 200 if is_ready else 503
        loading = {"progress": server.loading.progress, "phase": server.loading.phase, "error": server.loading.error}
        return {"ready": is_ready, "parts": parts, "loading": loading}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model, in OpenAI's list form."""
        model = {"id": server.config.model_name, "object": "model", "created": 0, "owned_by": "vita-duplex"}
        return {"object": "list", "data": [model]}

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=FRESH)

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        offered = socket.scope.get("subprotocols", [])
        await socket.accept("realtime" if "realtime" in offered else None)
        if reason := server.refusal():
            await socket.send_text(json.dumps(refusal(*reason)))
            await socket.close(TRY_AGAIN_LATER, reason[0])
            return
        assert server.parts is not None
        server.sessions += 1
        try:
            await Gateway(socket, server.parts, server.config.model_name).serve()
        finally:
            server.sessions -= 1

    app.mount("/static", FreshFiles(directory=STATIC), name="static")
    return app
