"""`/v1/instances`: who serves, and how an operator takes an instance out of service and back."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from vita_duplex.engine.pool import Pool
from vita_duplex.server.access.auth import Caller, Denied
from vita_duplex.server.errors import error_body
from vita_duplex.server.server import Server

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"description": "an error in OpenAI's form"}}


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter(responses=ERRORS)

    def pools() -> Mapping[str, Pool]:
        return server.parts.pools if server.parts else {}

    def listed() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {
                    "id": instance.name,
                    "object": "instance",
                    "model": model,
                    "healthy": instance.healthy,
                    "draining": instance.name in pool.draining,
                    "sessions": pool.generators[instance.name],
                }
                for model, pool in pools().items()
                for instance in pool.instances
            ],
        }

    async def operator(caller: Annotated[Caller, Depends(caller)]) -> None:
        access = server.config.access
        if access.open if caller.key is None else caller.key not in access.operators:
            raise Denied(403, "not_an_operator", "Only the keys in access.operators may drain instances.")

    def pool_of(name: str) -> Pool | None:
        return next((pool for pool in pools().values() if any(name == one.name for one in pool.instances)), None)

    def unknown(name: str) -> JSONResponse:
        there = ", ".join(one.name for pool in pools().values() for one in pool.instances)
        return JSONResponse(error_body("instance_not_found", f"There is no instance {name!r}; there are {there}."), 404)

    @routes.get("/v1/instances", dependencies=[Depends(caller)])
    async def instances() -> dict[str, Any]:
        """The engine instances of every model, and how many sessions generate on each."""
        return listed()

    @routes.put("/v1/instances/{name}/drain", dependencies=[Depends(operator)], response_model=None)
    async def drain(name: str) -> dict[str, Any] | JSONResponse:
        """No new slot is bound to this instance, and its sessions leave it as each becomes idle. When its `sessions`
        are 0 and no reply is under way it may be stopped and nobody notices."""
        pool = pool_of(name)
        if pool is None:
            return unknown(name)
        pool.drain(name)
        return listed()

    @routes.delete("/v1/instances/{name}/drain", dependencies=[Depends(operator)], response_model=None)
    async def readmit(name: str) -> dict[str, Any] | JSONResponse:
        """The instance takes sessions again."""
        pool = pool_of(name)
        if pool is None:
            return unknown(name)
        pool.readmit(name)
        return listed()

    return routes
