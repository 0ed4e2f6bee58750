"""`POST /v1/verdict` with scripted instances."""

import asyncio
import base64
import io
import json
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, Query, Situation, UserMessage
from vita_duplex.engine.ports import PartFailed, Transcript
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http.app import create_app
from vita_duplex.server.server import Server

QUERY = ScriptedReply(p1=0.9, transcript="stop", verdict_s=0, token_s=0, text="never said")
KEY = new_key()


def clip(seconds: float = 1.0, rate: int = 16_000, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(int(seconds * rate)) / 20), rate, format=kind)
    return file.getvalue()


def body(**more: Any) -> dict[str, Any]:
    return {"audio": base64.b64encode(clip()).decode(), **more}


async def post(server: Server, key: str | None = None, **request: Any) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(server))
    headers = {**request.pop("headers", {}), **({"Authorization": f"Bearer {key}"} if key else {})}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        return await http.post("/v1/verdict", headers=headers, **request)


def instance(server: Server, number: int = 0) -> ScriptedInstance:
    assert server.parts is not None
    found = server.parts.pool.instances[number]
    assert isinstance(found, ScriptedInstance)
    return found


def asked(server: Server) -> Query:
    return instance(server).queries[-1]


async def test_a_clip_is_judged_and_nothing_is_answered() -> None:
    server = scripted_server(QUERY)
    answer = await post(server, json=body())
    assert answer.json() == {
        "object": "verdict",
        "model": server.config.model_name,
        "state": "<1>",
        "p1": 0.9,
        "p2": pytest.approx(0.1),
        "p3": 0.0,
        "accepted": True,
        "threshold": 0.5,
        "transcript": "stop",
    }
    assert instance(server).running == server.sessions == 0


async def test_what_is_no_query_is_not_accepted() -> None:
    answer = (await post(scripted_server(QUERY.model_copy(update={"p1": 0.1})), json=body())).json()
    assert (answer["state"], answer["accepted"]) == ("<2>", False)


async def test_situation_and_dialogue_reach_the_instance() -> None:
    server = scripted_server(QUERY)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello. What is your name?"},
    ]
    said_into = {"reply": "speaking", "last_words": "First this. Then that"}
    await post(server, json=body(messages=messages, situation=said_into, language="zh"))
    query = asked(server)
    assert query.history == (UserMessage("Hello."), AssistantMessage("Hello. What is your name?"))
    assert (query.instructions, query.language) == ("Be brief.", "zh")
    assert query.situation == Situation("speaking", 0.0, "Then that")
    await post(server, json=body(messages=messages))
    assert asked(server).situation == Situation("after", 0.0, "What is your name?"), "as the dialogue has it"
    await post(server, json=body(messages=messages[:2]))
    assert asked(server).situation == Situation()


@pytest.mark.parametrize(("rate", "kind"), [(8_000, "WAV"), (48_000, "FLAC"), (24_000, "OGG"), (44_100, "MP3")])
async def test_a_form_carries_any_file_that_a_chat_takes(rate: int, kind: str) -> None:
    server = scripted_server(QUERY)
    fields = {"situation": '{"reply": "after", "seconds": 2}', "messages": '[{"role": "user", "content": "Hi."}]'}
    answer = await post(server, files={"file": ("clip", clip(1.0, rate, kind))}, data=fields)
    assert answer.status_code == 200, answer.text
    query = asked(server)
    assert (query.situation, query.history) == (Situation("after", 2.0), (UserMessage("Hi."),))
    samples = query.utterances[0].samples
    assert samples is not None
    assert len(samples) == pytest.approx(16_000, abs=1600)


class Ears:
    """An ASR that hears the length of the clip, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        if self._fails:
            raise PartFailed("asr", "scripted to fail")
        return Transcript(f"{len(samples)} samples")


@pytest.mark.parametrize(("ears", "words"), [(None, None), (Ears(), "16000 samples"), (Ears(fails=True), None)])
async def test_words_come_from_the_servers_asr_where_the_model_has_none(ears: Ears | None, words: str | None) -> None:
    server = scripted_server(QUERY.model_copy(update={"transcript": None}))
    assert server.parts is not None
    server.parts = replace(server.parts, asr=ears)
    assert (await post(server, json=body())).json()["transcript"] == words


SENSELESS = [
    ({"json": {}}, "invalid_value", "audio"),
    ({"json": []}, "invalid_value", None),
    ({"json": body(audio="!")}, "invalid_audio", "audio"),
    ({"json": body(audio=base64.b64encode(b"no sound").decode())}, "invalid_audio", "audio"),
    ({"json": body(audio=base64.b64encode(clip(201, 1000)).decode())}, "invalid_audio", "audio"),
    ({"json": body(audio="https://example.com/a.wav")}, "invalid_audio", "audio"),
    ({"json": body(situation={"reply": "perhaps"})}, "invalid_value", "situation.reply"),
    ({"json": body(situation={"reply": "after", "seconds": -1})}, "invalid_value", "situation.seconds"),
    ({"content": json.dumps(body(situation={"reply": "after", "seconds": float("inf")}))}, "invalid_value", None),
    ({"json": body(situation="speaking")}, "invalid_value", "situation"),
    ({"json": body(sitation={"reply": "idle"})}, "invalid_value", "sitation"),
    ({"json": body(messages=[{"role": "tool", "content": ""}])}, "invalid_value", "messages.0.role"),
    ({"json": body(messages=[{"role": "user", "content": "x" * 100_000}])}, "invalid_value", "messages.0.content"),
    ({"json": body(messages=[{"role": "user", "content": "x" * 10_000}] * 10)}, "context_too_long", "messages"),
    ({"json": body(messages=[{"role": "user", "content": ""}] * 65)}, "invalid_value", "messages"),
    ({"content": '{"audio": "\\ud800"}'}, "invalid_value", "audio"),
    ({"json": body(language="the language of the angels")}, "invalid_value", "language"),
    ({"content": b"{"}, "invalid_json", None),
    ({"content": b"[" * 100_000}, "invalid_json", None),
    ({"content": clip(), "headers": {"Content-Type": "audio/wav"}}, "invalid_json", None),
    ({"files": {"file": b"no sound"}}, "invalid_audio", "audio"),
    ({"files": {"clip": clip()}}, "invalid_value", None),
    ({"files": {"file": clip()}, "data": {"situation": "{"}}, "invalid_json", "situation"),
    ({"content": b"nonsense", "headers": {"Content-Type": "multipart/form-data"}}, "invalid_request", None),
    ({"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "invalid_value", None),
]


@pytest.mark.parametrize(("request_", "code", "param"), SENSELESS)
async def test_nonsense_is_refused_with_its_reason(request_: dict[str, Any], code: str, param: str | None) -> None:
    server = scripted_server(QUERY)
    answer = await post(server, **request_)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (400, code, "invalid_request_error")
    assert param is None or error["param"] == param
    assert server.sessions == 0
    assert (await post(server, json=body())).status_code == 200


async def test_too_large_a_body_is_refused_before_it_is_read() -> None:
    answer = await post(scripted_server(QUERY), files={"file": bytes(17 << 20)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def test_keys_are_asked_for_and_a_full_or_stopping_server_says_so() -> None:
    server = scripted_server(QUERY, access={"keys": {"laptop": hashed(KEY)}}, server={"max_sessions": 1})
    assert (await post(server, json=body())).status_code == 401
    assert (await post(server, KEY, json=body())).status_code == 200
    ticket = server.admission.ask(None, 0, may_wait=False)
    full = await post(server, KEY, json=body())
    assert (full.status_code, full.json()["error"]["code"]) == (429, "session_limit_reached")
    server.leave(ticket)  # type: ignore[arg-type]
    server.drain.begin(0)
    stopping = await post(server, KEY, json=body())
    assert (stopping.status_code, stopping.json()["error"]["code"]) == (503, "server_draining")


async def test_another_instance_judges_where_one_fails() -> None:
    server = scripted_server(QUERY)
    broken = QUERY.model_copy(update={"fails_after": 0})
    instance(server, 0)._replies = (broken,)
    assert (await post(server, json=body())).json()["p1"] == 0.9
    instance(server, 1)._replies = (broken,)
    answer = await post(server, json=body())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "part_failed")
    assert server.sessions == 0


async def test_an_instance_that_hangs_is_given_up() -> None:
    server = scripted_server(QUERY, duplex={"first_limit_s": 0.05})
    instance(server, 0)._replies = (QUERY.model_copy(update={"hangs_after": 0}),)
    assert (await post(server, json=body())).json()["p1"] == 0.9
    assert instance(server, 0).running == 0


async def test_who_leaves_stops_the_engine() -> None:
    server = scripted_server(QUERY.model_copy(update={"hangs_after": 0}), instances=1)
    async with serving(server) as port, httpx.AsyncClient() as http:
        waiting = asyncio.create_task(http.post(f"http://127.0.0.1:{port}/v1/verdict", json=body()))
        while not instance(server).running:  # noqa: ASYNC110 - it is on its way
            await asyncio.sleep(0.01)
        waiting.cancel()
        while instance(server).running or server.sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_requests_are_in_the_metrics() -> None:
    server = scripted_server(QUERY)
    await post(server, json=body())
    await post(server, json=body(audio="!"))
    text = server.metrics.text().decode()
    assert 'path="/v1/verdict",status="completed"} 1.0' in text
    assert 'path="/v1/verdict",status="refused"} 1.0' in text


def test_openapi_describes_both_bodies() -> None:
    described = create_app(scripted_server(QUERY)).openapi()["paths"]["/v1/verdict"]["post"]
    content = described["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert set(content["application/json"]["schema"]["properties"]) >= {"audio", "situation", "messages", "model"}
    assert "$ref" not in json.dumps(content)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["audio", "situation", "messages", "model", "language"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(FIELDS, ANYTHING))
def test_whatever_is_sent_is_answered_or_refused(fields: dict[str, Any]) -> None:
    server = scripted_server(QUERY)
    answer = asyncio.run(post(server, content=json.dumps(body() | fields)))
    assert answer.status_code == 200 or answer.json()["error"]["code"]
    assert server.sessions == 0
