"""The HTTP endpoints."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from openai.types.realtime import ClientSecretCreateResponse

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.config import Config
from vita_duplex.engine.health import FAILURE_S, UNUSED_S, Standing
from vita_duplex.engine.ports import PartFailed, Synthesiser
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http import body_limit
from vita_duplex.server.http.app import create_app
from vita_duplex.server.parts import load_parts
from vita_duplex.server.readiness import LIMIT_S, LOOK_S, Readiness
from vita_duplex.server.server import Server
from vita_duplex.tts.voices.scripted import HummingVoice
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.scripted import LevelVad

KEY = new_key()
KEYS = {"keys": {"laptop": hashed(KEY)}}
WITH_KEY = {"authorization": f"Bearer {KEY}"}
GUARDED = [("GET", "/metrics"), ("GET", "/v1/models"), ("POST", "/v1/realtime/client_secrets")]
ANSWERED = ["/v1/chat/completions", "/v1/audio/speech"]


def client(server: Server, **headers: str) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=create_app(server))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)


def ask(server: Server, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    async def script() -> httpx.Response:
        async with client(server) as http:
            return await http.request(method, path, headers=headers, **more)

    return asyncio.run(script())  # files are read in threads, which know no virtual time


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_with_keys_only_those_who_have_one_are_answered(method: str, path: str) -> None:
    server = scripted_server(access=KEYS)
    refused = ask(server, method, path, json={})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json()["error"]["code"] == "missing_api_key"
    assert (
        ask(server, method, path, {"authorization": "Bearer no"}, json={}).json()["error"]["code"] == "invalid_api_key"
    )
    assert ask(server, method, path, WITH_KEY, json={}).status_code == 200


@pytest.mark.parametrize("path", ANSWERED)
def test_answers_are_for_those_who_have_a_key_and_for_pages_from_here(path: str) -> None:
    assert ask(scripted_server(access=KEYS), "POST", path, json={}).json()["error"]["code"] == "missing_api_key"
    refused = ask(scripted_server(), "POST", path, {"origin": "https://evil.example"}, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")


CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/nothing", b"", 404, "not_found"),
        ("GET", CHAT, b"", 405, "method_not_allowed"),
        ("POST", CHAT, b"{", 400, "invalid_value"),
        ("POST", CHAT, b"[" * 100_000, 400, "invalid_request"),
        ("POST", CHAT, b"\x80", 400, "invalid_request"),
        ("POST", CHAT, rb'{"\ud800": 1, "messages": []}', 400, "invalid_value"),
        ("POST", CHAT, rb'{"messages": [{"role": "user", "content": "\ud800"}]}', 400, "invalid_value"),
        ("POST", CHAT, rb'{"messages": [{"role": "\ud800"}]}', 400, "invalid_value"),
        ("POST", CHAT, rb'{"messages": [{"role": "user", "content": ""}], "seed": NaN}', 400, "invalid_value"),
        ("POST", CHAT, rb'{"messages": [{"role": "user", "content": ""}], "model": "\ud800"}', 400, "invalid_value"),
        ("POST", "/v1/audio/speech", rb'{"input": "\ud800"}', 400, "invalid_value"),
    ],
    ids=lambda value: value[:60] if isinstance(value, bytes) else None,
)
def test_every_error_has_the_form_of_the_reference(method: str, path: str, body: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/json"}
    answer = ask(scripted_server(), method, path, headers, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (code, "invalid_request_error")


def test_the_models_say_what_they_take() -> None:
    models = {"small": {"kind": "text"}}
    first, second = ask(scripted_server(models=models), "GET", "/v1/models").json()["data"]
    assert (first["id"], first["input_modalities"]) == ("scripted", ["text", "audio", "image", "video"])
    assert (second["id"], second["input_modalities"]) == ("small", ["text", "audio"])
    assert (first["tools"], second["tools"]) == (True, False)


def test_one_model_can_be_asked_for_by_its_name() -> None:
    server = scripted_server(models={"owner/small": {"kind": "text"}})
    assert ask(server, "GET", "/v1/models/owner/small").json() == ask(server, "GET", "/v1/models").json()["data"][1]
    refused = ask(server, "GET", "/v1/models/gpt-4o")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "scripted, owner/small" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/realtime", "/realtime", "/nothing?key=sk-secret"])
def test_an_address_that_is_not_served_says_what_is(path: str) -> None:
    refused = ask(scripted_server(access=KEYS), "GET", path)
    message = refused.json()["error"]["message"]
    assert (refused.status_code, "sk-" in message) == (404, False)
    for served in ("WebSocket /v1/realtime", "POST /v1/chat/completions", "POST /v1/audio/speech", "GET /v1/models"):
        assert served in message


@pytest.mark.parametrize("path", ["/realtime", "/v1/realtime/x", "/", "/static/talk.js"])
def test_a_websocket_on_another_address_is_told_and_logged(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        async with connected(scripted_server(), path=path) as socket:
            denied = await socket.until("denied")
        assert (socket.denied, denied["error"]["code"]) == (404, "not_found")
        assert "WebSocket /v1/realtime" in denied["error"]["message"]

    run(script())
    assert f"{path!r} is refused" in caplog.text


def test_a_slash_behind_the_address_does_no_harm() -> None:
    async def script() -> None:
        async with connected(scripted_server(), path="/v1/realtime/") as socket:
            await socket.until("session.created")

    run(script())


def test_openapi_describes_the_routes_and_their_bodies() -> None:
    described = ask(scripted_server(), "GET", "/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/audio/speech", "/v1/models"} <= set(described["paths"])
    schemas = described["components"]["schemas"]
    assert {"ChatRequest", "SpeechRequest", "SecretRequest", "InputAudioPart"} <= set(schemas)
    assert "Base64 of an audio file" in str(schemas)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_pages_from_elsewhere_are_refused(method: str, path: str) -> None:
    refused = ask(scripted_server(), method, path, {"origin": "https://evil.example"}, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")


@pytest.mark.parametrize(
    "path",
    ["/health", "/ready", "/", "/ability", "/static/talk.js", "/openapi.json"],
)
def test_what_probes_and_the_page_need_wants_no_key(path: str) -> None:
    assert ask(scripted_server(access=KEYS), "GET", path).status_code == 200


def test_an_ephemeral_key_has_the_form_of_the_reference_and_opens_a_session() -> None:
    async def script() -> None:
        server = scripted_server(access=KEYS)
        wanted = {"type": "realtime", "model": "x", "instructions": "be brief"}
        async with client(server, **WITH_KEY) as http:
            body = {"expires_after": {"anchor": "created_at", "seconds": 60}, "session": wanted}
            answer = (await http.post("/v1/realtime/client_secrets", json=body)).json()
        secret = ClientSecretCreateResponse.model_validate(answer)
        assert secret.expires_at == pytest.approx(time.time() + 60, abs=5)
        assert secret.session.type == "realtime"
        assert secret.session.instructions == "be brief"
        offered = ("realtime", f"openai-insecure-api-key.{secret.value}")
        async with connected(server, subprotocols=offered) as browser:
            assert (await browser.until("session.created"))["session"]["instructions"] == "be brief"
        async with client(server, authorization=f"Bearer {secret.value}") as http:
            assert (await http.post("/v1/realtime/client_secrets", json={})).status_code == 401

    run(script())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 7201}}, "expires_after.seconds"),
        ({"session": {"type": "translation"}}, "session.type"),
        ({"session": {"type": "realtime", "instructions": "x" * 200001}}, "session.instructions"),
        ({"expire_after": {}}, "expire_after"),
    ],
)
def test_a_wrong_wish_for_a_key_is_refused_with_the_name_of_what_is_wrong(body: Any, param: str) -> None:
    refused = ask(scripted_server(), "POST", "/v1/realtime/client_secrets", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
    assert refused.json()["error"]["param"] == param
    assert "x" * 100 not in refused.text


def test_bodies_are_bounded_also_without_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "MESSAGE_LIMIT", 1000)

    async def body() -> Any:
        for _ in range(100):
            yield b" " * 100

    refused = ask(scripted_server(), "POST", "/v1/realtime/client_secrets", content=body())
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")


def test_deep_json_is_an_error_and_no_crash() -> None:
    async def script() -> None:
        async with connected(scripted_server()) as socket:
            for depth in (500, 100_000):
                for opening, closing in (("[", "]"), ('{"a":', "}")):
                    deep = opening * depth + "1" + closing * depth
                    socket.put(deep)
                    socket.put(f'{{"type": "session.update", "session": {deep}}}')
            await socket.until("error", 8)
            assert {event["error"]["code"] for event in socket.all("error")} == {"invalid_json"}

    run(script())


# ── readiness ──────────────────────────────────────────────────────────────────────────


def readiness(server: Server, *between: Callable[[], object]) -> list[tuple[int, dict[str, Any]]]:
    """What `/ready` says first and after each of the changes, each time when a probe would have found out."""

    async def look() -> tuple[int, dict[str, Any]]:
        async with client(server) as http:
            answer = await http.get("/ready")
            return answer.status_code, answer.json()

    async def script() -> list[tuple[int, dict[str, Any]]]:
        assert server.parts is not None
        probing = asyncio.create_task(Readiness(server.parts).run())
        found = [await look()]
        for change in between:
            change()
            await asyncio.sleep(UNUSED_S + LIMIT_S + 2 * LOOK_S)
            found.append(await look())
        probing.cancel()
        return found

    return run(script())


def test_ready_names_each_part() -> None:
    [(status, body)] = readiness(scripted_server())
    assert (status, body["ready"], body["draining_s"]) == (200, True, None)
    assert body["parts"] == {"vad": True, "tts": True, "instance a": True, "instance b": True}


def test_one_instance_is_enough_and_none_is_not() -> None:
    server = scripted_server()
    assert server.parts is not None
    first, second = server.parts.pool.instances
    found = readiness(server, first.close, second.close)
    assert [(status, body["parts"]["instance a"]) for status, body in found] == [
        (200, True),
        (200, False),
        (503, False),
    ]


def test_a_voice_that_fails_or_hangs_is_seen_and_so_is_its_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    server = scripted_server()
    assert server.parts is not None
    voice = server.parts.voice
    speaks = voice.synthesise

    def speak_by(first: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        async def synthesise(text: str) -> Any:
            await first()
            async for piece in speaks(text):
                yield piece

        return lambda: monkeypatch.setattr(voice, "synthesise", synthesise)

    async def fail() -> None:
        raise PartFailed("tts", "out of breath")

    async def hang() -> None:
        await asyncio.sleep(3600)

    async def be_well() -> None:
        pass

    def fall_back_on(second: Synthesiser) -> Callable[[], None]:
        async def synthesise(text: str) -> Any:
            yield PartFailed("tts", "out of breath; another voice speaks")
            async for piece in second.synthesise(text):
                yield piece

        return lambda: monkeypatch.setattr(voice, "synthesise", synthesise)

    class Mute(HummingVoice):
        async def synthesise(self, text: str) -> Any:
            raise PartFailed("tts", "it is lost")
            yield

    found = readiness(
        server, speak_by(fail), speak_by(be_well), speak_by(hang), fall_back_on(HummingVoice()), fall_back_on(Mute())
    )
    assert [(status, body["parts"]["tts"]) for status, body in found] == [
        (200, True),
        (503, False),
        (200, True),
        (503, False),
        (200, True),
        (503, False),
    ]
    assert all(body["parts"]["vad"] for _, body in found)


def test_ears_whose_worker_is_gone_are_seen() -> None:
    server = scripted_server()
    assert server.parts is not None
    executor = InlineExecutor()
    server.parts = replace(server.parts, detector=Detector(LevelVad(), executor))

    def gone(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    found = readiness(server, lambda: setattr(executor, "submit", gone))
    assert [(status, body["parts"]["vad"]) for status, body in found] == [(200, True), (503, False)]


def test_asking_whether_it_is_ready_makes_nobody_work() -> None:
    class Working(HummingVoice):
        spoken = 0

        async def synthesise(self, text: str) -> Any:
            self.spoken += 1
            async for piece in super().synthesise(text):
                yield piece

    def asked(tts: Standing) -> int:
        """How often a voice speaks in an hour in which `/ready` is asked every six seconds."""
        server, voice = scripted_server(), Working()
        assert server.parts is not None
        server.parts = replace(server.parts, voices={"working": voice}, tts=tts)

        async def script() -> None:
            assert server.parts is not None
            probing = asyncio.create_task(Readiness(server.parts).run())
            async with client(server) as http:
                for _ in range(600):
                    assert (await http.get("/ready")).status_code == 200
                    await asyncio.sleep(6)
            probing.cancel()

        run(script())
        return voice.spoken

    assert asked(Standing(local=False)) == 0
    assert asked(Standing()) <= 3600 / UNUSED_S


def test_what_sessions_hear_of_a_voice_in_the_cloud_is_what_ready_says() -> None:
    class Mute(HummingVoice):
        async def synthesise(self, text: str) -> Any:
            raise PartFailed("voice", "429, too many requests")
            yield

    server = scripted_server()
    assert server.parts is not None
    server.parts = replace(server.parts, voices={"mute": Mute()}, tts=Standing(local=False))

    async def script() -> None:
        async with connected(server) as socket, client(server) as http:
            await socket.speak()
            await socket.until("response.done")
            await socket.speak()
            await socket.until("response.done", 2)
            answer = await http.get("/ready")
            assert (answer.status_code, answer.json()["parts"]["tts"]) == (503, False)
            await asyncio.sleep(FAILURE_S)
            assert (await http.get("/ready")).status_code == 200

    run(script())


@pytest.mark.parametrize(("voice", "local"), [("openai", False), ("tencent", False), ("humming", True)])
def test_only_a_voice_on_this_machine_is_probed(voice: str, local: bool) -> None:
    keys = {"tencent": {"secret_id": "me", "secret_key": "mine"}}
    chosen = {"kind": voice, **({voice: keys[voice]} if voice in keys else {})}
    config = {"engine": {"kind": "scripted"}, "vad": {"kind": "level"}, "tts": chosen}
    parts = load_parts(Config.model_validate(config), lambda share, phase: None)
    assert parts.tts.wants_probe(0) == local
    parts.close()


def test_a_server_that_stops_is_alive_and_not_ready() -> None:
    server = scripted_server(server={"grace_s": 100})

    async def script() -> None:
        server.drain.begin(asyncio.get_running_loop().time())
        async with client(server) as http:
            answer = await http.get("/ready")
            assert (answer.status_code, answer.json()["draining_s"]) == (503, pytest.approx(98, abs=0.1))
            assert (await http.get("/health")).status_code == 200

    run(script())
