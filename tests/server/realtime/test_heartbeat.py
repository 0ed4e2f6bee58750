"""Is the client still there, and does its user still speak? Over an in-process WebSocket on virtual time."""

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.messages import Query
from vita_duplex.server.server import Server

SHORT = ScriptedReply(transcript="what is it", text="It is short, and this is its end.")
LONG = ScriptedReply(transcript="tell me more", text=" ".join("abcdefghij"[n % 10] * 5 for n in range(68)) + ".")
NOISE = ScriptedReply(p1=0.1, transcript="secret words", text="secret answer")
BEAT = {"type": "session.heartbeat"}
FIVE = {"type": "server_vad", "idle_timeout_ms": 5000}
reference = TypeAdapter[Any](RealtimeServerEvent)


def detecting(detection: Json | None) -> Json:
    return {
        "type": "session.update",
        "session": {"type": "realtime", "audio": {"input": {"turn_detection": detection}}},
    }


def queries(server: Server) -> list[Query]:
    assert server.parts is not None
    return [query for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]


async def be_silent(socket: Socket, seconds: float) -> None:
    await socket.say(np.zeros(int(seconds * 24_000), np.float32), binary=True)


# ── the client ─────────────────────────────────────────────────────────────────────────


def test_a_client_whose_heartbeats_stop_is_taken_for_gone() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for _ in range(10):
                socket.put(BEAT)
                await asyncio.sleep(14)
            assert len(socket.all("session.heartbeat")) == 10
            assert socket.closed is None
            await asyncio.sleep(2)
            assert socket.closed == (4002, "no heartbeat")
            assert server.sessions == 0

    run(script())


def test_whatever_comes_is_a_sign_of_life() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(BEAT)
            await be_silent(socket, 20)
            assert socket.closed is None

    run(script())


def test_who_never_sent_a_heartbeat_need_not_send_any() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            await socket.until("session.created")
            await asyncio.sleep(200)
            assert socket.closed is None

    run(script())


def test_what_a_half_open_client_did_not_hear_waits_for_it() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, "resume=true") as first:
            first.put(BEAT)
            await first.speak()
            await first.until("response.output_audio.delta")
            await asyncio.sleep(16)  # its network is gone: what is sent to it now never arrives
            assert first.closed == (4002, "no heartbeat")
            token, got = first.all("session.created")[0]["resume_token"], first.all("response.output_audio.delta")[0]
            async with connected(server, f"resume_token={token}&last_event_id={got['event_id']}") as second:
                assert not second.all("error")
                done = await second.until("response.done")
                assert done["response"]["status"] == "completed"
                heard = (len(base64.b64decode(got["delta"])) // 2 + len(second.audio("resp_1"))) / 24_000
                assert heard == pytest.approx(len(LONG.text) / 15, rel=0.01)

    run(script())


# ── its user ───────────────────────────────────────────────────────────────────────────


def test_silence_after_a_reply_is_answered_again_and_again() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server, "") as socket:
            socket.put(detecting(FIVE))
            await socket.speak()
            await be_silent(socket, 20)
            first, second = socket.all("input_audio_buffer.timeout_triggered")
            for event in socket.events:
                assert reference.validate_python(event).type == event["type"]
            for event in (first, second):
                assert event["audio_end_ms"] - event["audio_start_ms"] == pytest.approx(5000, abs=20)
            # What was said is 1.65 s with its silence, the reply about 2.2 s.
            assert first["audio_start_ms"] == pytest.approx(1650 + 2200, abs=400)
            kinds = socket.kinds()
            at = kinds.index("input_audio_buffer.timeout_triggered")
            assert kinds[at + 1 : at + 5] == [
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
                "response.created",
            ]
            assert socket.events[at + 1]["item_id"] == first["item_id"]
            assert len(socket.all("response.done")) == 3
            asked = [query.utterances[-1].text for query in queries(server)]
            assert len(asked) == 3
            assert asked.count(None) == 1

    run(script())


@pytest.mark.parametrize("detection", [
    {"type": "server_vad"},
    {"type": "semantic_vad"},
    {"type": "server_vad", "idle_timeout_ms": 5000, "create_response": False},
    None,
])  # fmt: skip
def test_silence_is_not_answered_unasked(detection: Json | None) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            await socket.speak()
            await socket.until("response.done")
            socket.put(detecting(detection))
            await be_silent(socket, 20)
            assert len(socket.all("response.created")) == 1

    run(script())


def test_before_the_first_reply_and_during_one_silence_is_not_answered() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG), "") as socket:
            socket.put(detecting(FIVE))
            await be_silent(socket, 30)
            await socket.speak()
            await be_silent(socket, 20)  # the reply takes 27 s
            assert socket.all("input_audio_buffer.timeout_triggered") == []

    run(script())


def test_what_was_not_meant_for_us_makes_the_time_begin_anew() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT, NOISE), "") as socket:
            socket.put(detecting(FIVE))
            await socket.speak()
            await be_silent(socket, 5.5)  # about three of them after the reply
            await socket.speak()
            await be_silent(socket, 4.0)
            assert socket.all("input_audio_buffer.timeout_triggered") == []
            await be_silent(socket, 1.5)
            assert len(socket.all("input_audio_buffer.timeout_triggered")) == 1

    run(script())


def test_it_is_the_audio_that_counts_not_the_clock() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            socket.put(detecting(FIVE))
            await socket.speak()
            await socket.until("response.done")
            await asyncio.sleep(60)
            assert socket.all("input_audio_buffer.timeout_triggered") == []
            for _ in range(6):
                socket.put(bytes(48_000))  # a second of silence, all at once
            await socket.until("response.done", 2)
            assert len(socket.all("input_audio_buffer.timeout_triggered")) == 1

    run(script())
