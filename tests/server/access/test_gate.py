"""What each answer carries, and that who tries too much is refused before anything is done for it."""

import pytest

from tests.server.http.test_http import KEY, KEYS, client
from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.server.access import auth
from vita_duplex.server.access.gate import HEADERS

PATHS = ["/", "/ability", "/static/talk.js", "/health", "/metrics", "/nothing", "/v1/chat/completions", "/openapi.json"]


async def test_every_answer_carries_the_headers() -> None:
    async with client(scripted_server()) as http:
        for path in PATHS:
            answer = await http.get(path)
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path


async def test_a_page_that_made_its_name_point_here_reads_nothing() -> None:
    async with client(scripted_server()) as http:
        for path in ("/metrics", "/v1/instances", "/v1/models"):
            refused = await http.get(path, headers={"host": "evil.example:8000"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")
        assert (await http.get("/ready", headers={"host": "evil.example"})).status_code == 200  # probes know names


async def test_wrong_keys_are_tried_a_few_times_and_then_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted_server(access=KEYS, limits={"address_tries_per_minute": 3})
    async with client(server) as http:
        wrong = {"authorization": "Bearer wrong"}
        statuses = [(await http.get("/v1/models", headers=wrong)).status_code for _ in range(4)]
        assert statuses == [401, 401, 401, 429]
        monkeypatch.setattr(auth, "hashed", None)  # it would be called for a key that is looked at
        refused = await http.get("/v1/models", headers=wrong)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) <= 20
        assert refused.headers["x-content-type-options"] == "nosniff"
        assert 'code="address_rate_limit_exceeded"} 2.0' in server.metrics.text().decode()


async def test_who_behaves_is_not_limited() -> None:
    async with client(scripted_server(access=KEYS, limits={"address_tries_per_minute": 1})) as http:
        right = {"authorization": f"Bearer {KEY}"}
        assert [(await http.get("/v1/models", headers=right)).status_code for _ in range(5)] == [200] * 5


def test_a_handshake_beyond_the_addresss_sockets_is_refused_and_costs_no_session() -> None:
    async def script() -> None:
        server = scripted_server(limits={"address_sockets": 1})
        async with connected(server) as first:
            await first.until("session.created")
            async with connected(server) as second:
                await second.some()
                assert second.denied == 429
            assert server.sessions == 1
        async with connected(server) as third:
            await third.until("session.created")

    run(script())
