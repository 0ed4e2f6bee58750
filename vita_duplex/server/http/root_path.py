"""Everything under a path: behind a proxy that serves other things as well."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware. A path with the root path before it and one without, for proxies that take it off, are the same;
    routes are found by Starlette's rule that the path begins with `root_path`."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self._root_path:
            # The pages' addresses are relative, so they need the slash.
            await RedirectResponse(f"{self._root_path}/")(scope, receive, send)
            return
        if scope["type"] in ("http", "websocket") and not scope["path"].startswith(f"{self._root_path}/"):
            scope = {**scope, "path": self._root_path + scope["path"]}
        await self._app(scope, receive, send)
