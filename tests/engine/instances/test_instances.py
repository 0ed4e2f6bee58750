"""Taking an instance out of service and back, over HTTP."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http.app import create_app
from vita_duplex.server.server import Server

KEYS = {name: new_key() for name in ("laptop", "admin")}
ACCESS = {"keys": {name: hashed(key) for name, key in KEYS.items()}, "operators": ["admin"]}
LONG = ScriptedReply(text=" ".join(["zebra"] * 40) + ".")


def ask(server: Server, method: str, path: str, key: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {KEYS[key]}"} if key else {}

    async def script() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(server))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers) as http:
            return await http.request(method, path)

    return asyncio.run(script())


def states(answer: httpx.Response) -> dict[str, tuple[bool, int]]:
    """By instance: whether it is draining, and its sessions."""
    assert answer.status_code == 200, answer.text
    return {one["id"]: (one["draining"], one["sessions"]) for one in answer.json()["data"]}


def test_sessions_leave_a_draining_instance_when_they_are_idle() -> None:
    server = scripted_server(LONG)

    async def script() -> None:
        async with connected(server) as one, connected(server) as two:
            await one.until("session.created")
            await two.until("session.created")
            assert server.parts is not None
            pool = server.parts.pool
            assert pool.generators == {"a": 1, "b": 1}
            transport = httpx.ASGITransport(app=create_app(server))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
                assert states(await http.put("/v1/instances/a/drain")) == {"a": (True, 0), "b": (False, 2)}
                assert states(await http.get("/v1/instances")) == {"a": (True, 0), "b": (False, 2)}
                assert states(await http.delete("/v1/instances/a/drain")) == {"a": (False, 1), "b": (False, 1)}

    run(script())


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_an_unknown_instance_is_named(method: str) -> None:
    refused = ask(scripted_server(), method, "/v1/instances/z/drain")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "instance_not_found")
    assert "a, b" in refused.json()["error"]["message"]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("access", "key", "status"),
    [
        ({}, None, 200),
        ({"open": True}, None, 403),
        (ACCESS, None, 401),
        (ACCESS, "laptop", 403),
        (ACCESS, "admin", 200),
    ],
)
def test_only_operators_drain(method: str, access: dict[str, Any], key: str | None, status: int) -> None:
    server = scripted_server(access=access)
    assert ask(server, method, "/v1/instances/a/drain", key).status_code == status
    drained = server.parts is not None and "a" in server.parts.pool.draining
    assert drained == (method == "PUT" and status == 200)


def test_any_key_may_look() -> None:
    assert ask(scripted_server(access=ACCESS), "GET", "/v1/instances").status_code == 401
    assert states(ask(scripted_server(access=ACCESS), "GET", "/v1/instances", "laptop"))["a"] == (False, 0)


def test_before_the_engines_are_there_none_are_listed() -> None:
    server = scripted_server()
    server._parts = None
    assert ask(server, "GET", "/v1/instances").json()["data"] == []
