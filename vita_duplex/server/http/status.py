"""`/health`, `/ready`, `/metrics` and `/v1/models`: what operators, probes and clients ask first."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Response

from vita_duplex import __version__
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.errors import Refusal
from vita_duplex.server.http.places import NoPlace
from vita_duplex.server.server import Server


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok", "version": __version__}

    @routes.get("/ready")
    async def ready(response: Response) -> dict[str, Any]:
        """Whether sessions are served, and which parts work; 503 while loading, draining, or without a part."""
        is_ready, parts = server.readiness()
        response.status_code = 200 if is_ready else 503
        loading = {"progress": server.loading.progress, "phase": server.loading.phase, "error": server.loading.error}
        lag = round(server.metrics.lag.mean_s, 3)
        left = server.drain.seconds_left(asyncio.get_running_loop().time())
        return {"ready": is_ready, "parts": parts, "loading": loading, "draining_s": left, "loop_lag_s": lag}

    @routes.get("/metrics", dependencies=[Depends(caller)])
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(server.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")

    @routes.get("/v1/models", dependencies=[Depends(caller)])
    async def models() -> dict[str, Any]:
        """The models, in OpenAI's list form, and what each takes; the first is for clients that name none."""
        listed = [_model(server, name, engine.modalities) for name, engine in server.config.engines.items()]
        return {"object": "list", "data": listed}

    @routes.get("/v1/models/{name:path}", dependencies=[Depends(caller)])
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        engines = server.config.engines
        if name not in engines:
            message = f"There is no model {name!r} here; there are {', '.join(engines)}."
            raise NoPlace(Refusal("model_not_found", message))
        return _model(server, name, engines[name].modalities)

    return routes


def _model(server: Server, name: str, modalities: list[str]) -> dict[str, Any]:
    """`tools`: whether it can call any; null while the server loads."""
    fields = {"object": "model", "created": 0, "owned_by": "vita-duplex"}
    tools = server.parts.can_call(name) if server.parts else None
    return {"id": name, **fields, "input_modalities": modalities, "tools": tools}
