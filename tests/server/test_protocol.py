"""The protocol document: its examples are executed, its tables list every event there is."""

import asyncio
import base64
import io
import json
import re
from dataclasses import replace
from typing import Any, get_args

import httpx
import numpy as np
import pytest
import soundfile
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

from tests.support.paths import ROOT
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.telephone import CALL, calling
from tests.support.virtual_time import run
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.ports import PartFailed, Transcript
from vita_duplex.server.http.app import create_app
from vita_duplex.server.realtime.client_events import SUPPORTED

DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SPEECH = "> (a second of speech)"
SILENCE = "> (six seconds of silence from the microphone)"
QUERY = "vita_events=true&pauses=true&resume=true"
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", DOCUMENT, re.M | re.S)
EXAMPLES, OF_VERDICTS, OVER_HTTP = (
    [text for kind, text in FENCED if kind == wanted] for wanted in ("", "verdict", "http")
)


def contains(event: Any, shown: Any) -> bool:
    """Whether an event has the fields that are shown; what ends with … is the beginning of a text."""
    if isinstance(shown, dict):
        return isinstance(event, dict) and all(name in event and contains(event[name], shown[name]) for name in shown)
    if isinstance(shown, str) and shown.endswith("…"):
        return isinstance(event, str) and event.startswith(shown[:-1])
    return bool(event == shown)


async def answer(socket: Socket, seen: int, shown: Json) -> int:
    """Wait for an event like the one shown, after those seen; return how many are seen then."""
    async with asyncio.timeout(20):
        while True:
            for number, event in enumerate(socket.events[seen:], seen + 1):
                if contains(event, shown):
                    return number
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[2:40])
def test_the_examples_work(example: str) -> None:
    execute(example, "/v1/realtime")


@pytest.mark.parametrize("example", OF_VERDICTS, ids=lambda example: example[2:40])
def test_the_examples_of_verdicts_work(example: str) -> None:
    execute(example, "/v1/verdict")


def execute(example: str, path: str) -> None:
    async def script() -> None:
        async with connected(scripted_server(ScriptedReply(text="It is short.")), QUERY, path=path) as socket:
            seen = 0
            for line in example.splitlines():
                if line == SILENCE:
                    await socket.say(np.zeros(6 * 24_000, np.float32))
                elif line == SPEECH:
                    await socket.speak()
                elif line.startswith("> "):
                    socket.put(json.loads(line[2:]))
                else:
                    seen = await answer(socket, seen, json.loads(line[2:]))

    run(script())


@pytest.mark.parametrize("example", OVER_HTTP, ids=lambda example: example.splitlines()[0])
async def test_the_examples_over_http_work(example: str) -> None:
    transport = httpx.ASGITransport(create_app(scripted_server(ScriptedReply())))
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000), 16_000, format="WAV")
    clip = base64.b64encode(file.getvalue()).decode()
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        lines = iter(example.splitlines())
        for asked, body, status, shown in zip(lines, lines, lines, lines, strict=True):
            method, path = asked.split()
            answer = await http.request(method, path, json=json.loads(body.replace("UklGR…", clip)))
            assert answer.status_code == int(status)
            assert contains(answer.json(), json.loads(shown)), answer.json()


def listed(heading: str) -> dict[str, str]:
    """The events in a section's table, and what is said of them."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0].split("\n\nFields of")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    return {name: row[1].strip() for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


def known(union: Any) -> set[str]:
    """The types of the events in one of the reference's unions."""
    return {get_args(event.model_fields["type"].annotation)[0] for event in get_args(get_args(union)[0])}


def test_every_client_event_of_the_reference_is_listed_and_so_is_what_we_take() -> None:
    table = listed("Client events")
    assert {name for name, how in table.items() if how != "added"} == known(RealtimeClientEvent)
    assert {name for name, how in table.items() if how in ("supported", "added")} == set(SUPPORTED)


def test_every_server_event_of_the_reference_is_listed() -> None:
    table = listed("Server events")
    assert {name for name, how in table.items() if how != "added"} == known(RealtimeServerEvent)


# ── every event that is listed as sent, sent ───────────────────────────────────────────

QUERY_ONLY = ScriptedReply(text="It is short.")
LONG = ScriptedReply(text=" ".join(f"word{n}" for n in range(40)) + ".")
NOISE = ScriptedReply(p1=0.1)
SMALL_PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def typed(*content: Json, item_id: str = "typed") -> list[Json]:
    message = {"id": item_id, "type": "message", "role": "user", "content": list(content)}
    return [{"type": "conversation.item.create", "item": message}, {"type": "response.create"}]


class Deaf:
    """An ASR that fails."""

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        raise PartFailed("asr", "scripted to fail")


async def a_spoken_answer_with_noise_in_it() -> list[Json]:
    async with connected(scripted_server(LONG, NOISE)) as socket:
        await socket.speak()
        await socket.until("response.output_audio.delta")
        await socket.speak(0.5)
        await socket.until("vita.timeline", 2)
        socket.put(
            {
                "type": "conversation.item.truncate",
                "item_id": socket.item("reply", 1),
                "content_index": 0,
                "audio_end_ms": 9,
            }
        )
        await socket.until("conversation.item.truncated")
        return socket.events


async def a_typed_one_that_is_stopped() -> list[Json]:
    async with connected(scripted_server(LONG)) as socket:
        for event in typed({"type": "input_text", "text": "Hello?"}):
            socket.put(event)
        await socket.until("response.output_audio.delta")
        for kind in ("output_audio_buffer.clear", "input_audio_buffer.clear", "session.heartbeat", "nonsense"):
            socket.put({"type": kind})
        for what in ("retrieve", "delete"):
            socket.put({"type": f"conversation.item.{what}", "item_id": "typed"})
        socket.put({"type": "response.create", "response": {"output_modalities": ["text"], "instructions": "Go on."}})
        await socket.until("response.done", 2)
        return socket.events


async def silence_and_a_deaf_asr() -> list[Json]:
    server = scripted_server(QUERY_ONLY.model_copy(update={"transcript": None}))
    assert server.parts is not None
    server.parts = replace(server.parts, asr=Deaf())
    async with connected(server) as socket:
        detection = {"type": "server_vad", "idle_timeout_ms": 1000}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        socket.put({"type": "session.update", "session": session})
        await socket.speak()
        await socket.say(np.zeros(10 * 24_000, np.float32))
        return socket.events


async def a_full_server_that_stops() -> list[Json]:
    server = scripted_server(QUERY_ONLY, server={"max_sessions": 1})
    frames = [{"type": "input_image", "image_url": SMALL_PNG}] * 4
    async with connected(server, QUERY) as first, connected(server) as second:
        for event in typed(*frames, {"type": "input_text", "text": "What is it?"}):
            first.put(event)
        await first.until("response.done")
        await second.until("vita.queue")
        first.leave()
        token = (await first.until("session.created"))["resume_token"]
        async with connected(server, f"{QUERY}&resume_token={token}") as back:
            await back.until("session.resumed")
            back.put({"type": "response.create", "response": {"instructions": "Go on."}})
            await back.until("response.created")
            server.drain.begin(asyncio.get_running_loop().time())
            await back.until("vita.draining")
            return [*first.events, *second.events, *back.events]


async def a_dialogue_beyond_the_model() -> list[Json]:
    async with connected(scripted_server(QUERY_ONLY.model_copy(update={"reads": 5}))) as socket:
        for number in (1, 2, 3):
            for event in typed({"type": "input_text", "text": "And then?"}, item_id=f"typed {number}"):
                socket.put(event)
            await socket.until("response.done", number)
        return socket.events


async def a_key_of_a_telephone() -> list[Json]:
    server = scripted_server(QUERY_ONLY)
    async with calling(server) as phone:
        await asyncio.sleep(0.1)
        async with connected(server, f"call_id={CALL}") as application:
            await application.until("session.created")
            phone.put("dtmf", dtmf={"digit": "5"})
            await application.until("input_audio_buffer.dtmf_event_received")
            return application.events


async def a_call_of_a_tool() -> list[Json]:
    async with connected(scripted_server(QUERY_ONLY)) as socket:
        tools = [{"type": "function", "name": "f", "parameters": {}}]
        socket.put({"type": "response.create", "response": {"tools": tools, "tool_choice": "required"}})
        await socket.until("response.done")
        return socket.events


def test_what_the_server_sends_is_listed_as_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inline(work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", inline)  # threads, which decode pictures, know no virtual time
    talks = (
        a_spoken_answer_with_noise_in_it,
        a_typed_one_that_is_stopped,
        silence_and_a_deaf_asr,
        a_full_server_that_stops,
        a_dialogue_beyond_the_model,
        a_key_of_a_telephone,
        a_call_of_a_tool,
    )
    sent = {event["type"] for talk in talks for event in run(talk())}
    assert sent == {name for name, how in listed("Server events").items() if how in ("sent", "added")}
