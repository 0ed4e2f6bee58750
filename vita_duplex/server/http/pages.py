"""The talk page, the ability page, and the files they load."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

STATIC = Path(__file__).parents[1] / "static"
FRESH = {"Cache-Control": "no-cache"}
"""Browsers ask whether a file has changed: after an upgrade no page runs on a mixture of versions."""


class FreshFiles(StaticFiles):
    """Static files that browsers check before they use their copy."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH)
        return response


def add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def talk() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=FRESH)

    @app.get("/ability", include_in_schema=False)
    async def ability() -> FileResponse:
        return FileResponse(STATIC / "ability.html", headers=FRESH)

    app.mount("/static", FreshFiles(directory=STATIC), name="static")
