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


class _Pools:
    """The pools of a server, one for each model; none while it loads."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def by_model(self) -> Mapping[str, Pool]:
        return self._server.parts.pools if self._server.parts else {}

    def describe(self) -> dict[str, Any]:
        data = [
            {
                "id": instance.name,
                "object": "instance",
                "model": model,
                "healthy": instance.healthy,
                "draining": instance.name in pool.draining,
                "sessions": pool.generators[instance.name],
            }
            for model, pool in self.by_model.items()
            for instance in pool.instances
        ]
        return {"object": "list", "data": data}

    def change(self, name: str, change: Callable[[Pool, str], None]) -> JSONResponse:
        """Change the pool that has the instance, and describe all."""
        instances = {instance.name: pool for pool in self.by_model.values() for instance in pool.instances}
        if name not in instances:
            message = f"There is no instance {name!r}; there are {', '.join(instances)}."
            return JSONResponse(error_body("instance_not_found", message), 404)
        change(instances[name], name)
        return JSONResponse(self.describe())


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter(responses=ERRORS)
    pools = _Pools(server)

    async def operator(caller: Annotated[Caller, Depends(caller)]) -> None:
        access = server.config.access
        # Without a key a caller is on this machine, or anybody where `access.open` lets everybody in.
        is_operator = not access.open if caller.key is None else caller.key in access.operators
        if not is_operator:
            raise Denied(403, "not_an_operator", "Only the keys in access.operators may drain instances.")

    @routes.get("/v1/instances", dependencies=[Depends(caller)])
    async def instances() -> dict[str, Any]:
        """The engine instances of every model, and how many sessions generate on each."""
        return pools.describe()

    @routes.put("/v1/instances/{name}/drain", dependencies=[Depends(operator)])
    async def drain(name: str) -> JSONResponse:
        """No new slot is bound to this instance, and its sessions leave it as each becomes idle. When its `sessions`
        are 0 and no reply is under way it may be stopped and nobody notices."""
        return pools.change(name, Pool.drain)

    @routes.delete("/v1/instances/{name}/drain", dependencies=[Depends(operator)])
    async def readmit(name: str) -> JSONResponse:
        """The instance takes sessions again."""
        return pools.change(name, Pool.readmit)

    return routes
