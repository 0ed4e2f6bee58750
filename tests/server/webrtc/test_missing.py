"""A server without the extra says so."""

import sys

import httpx
import pytest

from tests.support.sockets import scripted_server
from tests.support.virtual_time import run
from vita_duplex.server.http.app import create_app


def test_without_the_extra_a_call_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiortc", None)
    monkeypatch.delitem(sys.modules, "vita_duplex.server.webrtc.peer", raising=False)

    async def script() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(scripted_server()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            headers = {"Content-Type": "application/sdp"}
            return await client.post("/v1/realtime/calls", content="v=0", headers=headers)

    answer = run(script())
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "webrtc_not_installed")
