"""The gateway over an in-process WebSocket, on virtual time."""

import asyncio
import base64
import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, Query
from vita_duplex.engine.pool import Pool
from vita_duplex.server.realtime.presence import TOO_MANY_ERRORS
from vita_duplex.server.realtime.responses import ECHO_S
from vita_duplex.server.server import Server

SHORT = ScriptedReply(transcript="what is it", text="It is short, and this is its end.")
LONG = ScriptedReply(transcript="tell me more", text=" ".join("abcdefghij"[n % 10] * 5 for n in range(80)) + ".")
NOISE = ScriptedReply(p1=0.1, transcript="secret words", text="secret answer")
RATE_16K = {"format": {"type": "audio/pcm", "rate": 16000}}
reference = TypeAdapter[Any](RealtimeServerEvent)


def update(**session: Any) -> Json:
    return {"type": "session.update", "event_id": "mine", "session": {"type": "realtime", **session}}


def errors(socket: Socket) -> list[tuple[str, str | None]]:
    return [(event["error"]["code"], event["error"]["event_id"]) for event in socket.all("error")]


def check_types(socket: Socket) -> None:
    """Every event the reference knows has the reference's shape."""
    for event in socket.events:
        if not event["type"].startswith("vita."):
            assert reference.validate_python(event).type == event["type"]
    ids = [event["event_id"] for event in socket.events]
    assert len(set(ids)) == len(ids)


def test_a_spoken_question_is_answered_with_the_events_of_the_reference_in_order() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), query="model=x") as socket:
            await socket.speak()
            await socket.until("response.done")
            check_types(socket)
            without_repeats = [k for k, last in zip(socket.kinds(), [None, *socket.kinds()], strict=False) if k != last]
            start = without_repeats.index("response.output_audio_transcript.delta")
            assert without_repeats[:start] == [
                "session.created",
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
                "conversation.item.input_audio_transcription.completed",
                "response.created",
                "rate_limits.updated",
                "response.output_item.added",
                "conversation.item.added",
                "response.content_part.added",
            ]
            assert without_repeats[-6:] == [
                "response.output_audio.done",
                "response.output_audio_transcript.done",
                "response.content_part.done",
                "response.output_item.done",
                "conversation.item.done",
                "response.done",
            ]
            done = socket.all("response.done")[0]["response"]
            assert done["status"] == "completed"
            assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": SHORT.text}]
            deltas = [event["delta"] for event in socket.all("response.output_audio_transcript.delta")]
            assert "".join(deltas) == SHORT.text
            # 15 characters a second of humming, in two pieces.
            assert len(socket.audio(done["id"])) == pytest.approx(24_000 * (len(SHORT.text) - 1) / 15, rel=0.01)

    run(script())


def test_our_own_events_come_only_to_those_who_ask_for_them() -> None:
    async def kinds(query: str) -> set[str]:
        async with connected(scripted_server(LONG, SHORT), query=query) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await socket.speak()
            await socket.until("response.done", 2)
            await asyncio.sleep(1)
            return {kind for kind in socket.kinds() if kind.startswith("vita.")}

    assert run(kinds("")) == set()
    assert run(kinds("vita_events=true")) == {
        "vita.roles", "vita.speech", "vita.hold", "vita.heard", "vita.verdict", "vita.timeline",
    }  # fmt: skip


def test_a_query_during_the_answer_cancels_it_and_swaps_the_roles_once() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, SHORT)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 20)
            await socket.speak()
            await socket.until("response.done", 2)
            check_types(socket)
            first, second = (event["response"] for event in socket.all("response.done"))
            assert (first["status"], first["status_details"]) == (
                "cancelled", {"type": "cancelled", "reason": "turn_detected"},
            )  # fmt: skip
            assert second["status"] == "completed"
            assert [event["swaps"] for event in socket.all("vita.roles")] == [0, 1]
            end = socket.kinds().index("response.done")
            late = [e for e in socket.events[end:] if e.get("response_id") == first["id"] and "delta" in e]
            assert late == []

    run(script())


def test_stock_clients_are_told_of_speech_during_an_answer_only_with_the_verdict() -> None:
    async def script(second: ScriptedReply) -> Socket:
        async with connected(scripted_server(LONG, second), query="") as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 20)
            await socket.speak()
            await asyncio.sleep(1)
            return socket

    assert len(run(script(NOISE)).all("input_audio_buffer.speech_started")) == 1
    accepted = run(script(SHORT))
    assert len(accepted.all("input_audio_buffer.speech_started")) == 2
    kinds = accepted.kinds()
    second_start = len(kinds) - 1 - kinds[::-1].index("input_audio_buffer.speech_started")
    assert second_start < kinds.index("response.done"), "flush first, then the end of the old answer"


def test_words_of_a_rejected_utterance_appear_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        async with connected(scripted_server(NOISE)) as socket:
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            await asyncio.sleep(2)
            assert (verdict["state"], verdict["accepted"], verdict["transcript"]) == ("<2>", False, None)
            assert "secret" not in json.dumps(socket.events)

    with caplog.at_level(logging.DEBUG):
        run(script())
    assert "secret" not in caplog.text


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_audio_comes_in_at_either_rate_as_text_or_binary(rate: int, binary: bool) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(audio={"input": {"format": {"type": "audio/pcm", "rate": rate}}}))
            await socket.speak(1.0, rate, binary=binary)
            stopped = await socket.until("input_audio_buffer.speech_stopped")
            assert stopped["audio_end_ms"] == pytest.approx(1000, abs=64)

    run(script())


def test_audio_goes_out_at_16_khz_on_request() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(audio={"output": RATE_16K}))
            await socket.speak()
            done = await socket.until("response.done")
            assert len(socket.audio(done["response"]["id"])) == pytest.approx(16_000 * len(SHORT.text) / 15, rel=0.05)
            assert socket.all("session.updated")[0]["session"]["audio"]["output"]["format"]["rate"] == 16_000

    run(script())


def test_turn_detection_can_be_tuned() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 1500}}}))
            session = (await socket.until("session.updated"))["session"]
            assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 1500
            await socket.speak()  # with 650 ms of silence
            assert socket.all("input_audio_buffer.speech_stopped") == []
            await socket.say(np.zeros(24_000, np.float32))
            await socket.until("input_audio_buffer.speech_stopped")

    run(script())


def test_a_typed_question_is_answered() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            content = [{"type": "input_text", "text": "what is it?"}]
            socket.put(
                {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
            )
            socket.put({"type": "response.create"})
            await socket.until("response.done")
            check_types(socket)
            assert socket.all("conversation.item.added")[0]["item"]["content"] == content
            assert socket.all("vita.verdict")[0]["state"] == "<3>"

    run(script())


def test_a_reply_can_be_cancelled_and_cancelling_nothing_is_a_harmless_error() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG)) as socket:
            socket.put({"type": "response.cancel", "event_id": "early"})
            await socket.until("error")
            assert errors(socket) == [("response_cancel_not_active", "early")]
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await asyncio.sleep(ECHO_S)
            socket.put({"type": "response.cancel"})
            done = await socket.until("response.done")
            assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}

    run(script())


def test_a_cancel_that_names_the_reply_stops_it_at_once_and_one_without_a_name_is_an_echo() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG)) as socket:
            await socket.speak()
            created = await socket.until("response.created")
            socket.put({"type": "response.cancel"})
            await socket.until("response.output_audio.delta", 5)
            socket.put({"type": "response.cancel", "response_id": created["response"]["id"]})
            done = await socket.until("response.done")
            assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
            assert len(socket.all("response.output_audio.delta")) >= 5
            assert errors(socket) == []

    run(script())


BAD_FRAMES: list[tuple[str | bytes | Json, str, str | None]] = [
    ("no json", "invalid_json", None),
    ("", "invalid_json", None),
    ("[1, 2]", "unknown_event", None),
    ("null", "unknown_event", None),
    ({"event_id": "e1"}, "unknown_event", "e1"),
    ({"type": "no.such.event", "event_id": "e2"}, "unknown_event", "e2"),
    ({"type": "session.update", "event_id": "e3"}, "invalid_value", "e3"),
    (b"odd", "invalid_audio", None),
    ({"type": "input_audio_buffer.append", "audio": "!!", "event_id": "e4"}, "invalid_base64", "e4"),
    ({"type": "input_audio_buffer.append", "audio": "QUJD", "event_id": "e5"}, "invalid_audio", "e5"),
    ({"type": "input_audio_buffer.append", "event_id": "e6"}, "invalid_value", "e6"),
    (update(audio={"input": {"format": {"type": "audio/pcm", "rate": 44100}}}), "unsupported_rate", "mine"),
    (update(audio={"input": {"format": {"type": "audio/opus"}}}), "invalid_value", "mine"),
    (update(audio={"input": {"turn_detection": {"type": "no_vad"}}}), "invalid_value", "mine"),
    (update(audio={"output": {"speed": 1.2}}), "unsupported_value", "mine"),
    (update(prompt={"id": "pmpt_1"}), "unsupported_value", "mine"),
    (update(output_modalities=["video"]), "invalid_value", "mine"),
    ({"type": "input_audio_buffer.commit", "event_id": "e7"}, "input_audio_buffer_commit_empty", "e7"),
    ({"type": "conversation.item.retrieve", "item_id": "x", "event_id": "e8"}, "item_not_found", "e8"),
    ({"type": "conversation.item.delete", "item_id": "x", "event_id": "e9"}, "item_not_found", "e9"),
]


@pytest.mark.parametrize(("frame", "code", "event_id"), BAD_FRAMES)
def test_nonsense_is_answered_with_a_typed_error_and_the_session_lives(
    frame: str | bytes | Json, code: str, event_id: str | None
) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(frame)
            await socket.until("error")
            assert errors(socket) == [(code, event_id)]
            assert socket.all("error")[0]["error"]["type"] == "invalid_request_error"
            await socket.speak()
            await socket.until("response.done")
            check_types(socket)

    run(script())


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"tools": [{"type": "function", "name": "f", "parameters": {}}]}, "session.tools"),
        ({"tool_choice": "required"}, "session.tool_choice"),
        ({"prompt": {"id": "pmpt_1"}}, "session.prompt"),
        ({"audio": {"output": {"speed": 1.2}}}, "session.audio.output.speed"),
    ],
)
def test_what_no_model_here_can_do_costs_nothing_else_of_the_update(wanted: Json, param: str) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        for instance in server.parts.instances:
            instance.calls = False
        async with connected(server) as socket:
            socket.put(update(instructions="Be a pirate.", **wanted))
            updated = (await socket.until("session.updated"))["session"]
            await socket.until("error")
            assert updated["instructions"] == "Be a pirate."
            assert (updated["tools"], updated["audio"]["output"]["speed"]) == ([], 1.0)
            assert [event["error"]["param"] for event in socket.all("error")] == [param]
            check_types(socket)

    run(script())


def test_ten_minutes_of_audio_at_once_are_refused_with_one_error_and_the_session_lives() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(audio={"input": RATE_16K}))
            minute = np.zeros(60 * 16_000, np.int16).tobytes()
            for _ in range(10):
                socket.put(minute)
            await socket.until("error")
            assert [code for code, _ in errors(socket)] == ["input_audio_overflow"]
            await asyncio.sleep(31)  # half of what it may be ahead of real time is free again
            await socket.speak(1.0, 16_000, binary=True)
            await socket.until("response.done")

    run(script())


def test_a_client_that_does_not_read_is_closed_and_nobody_else_notices() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server) as slow, connected(server) as other:
            await slow.until("session.created")
            slow.reads = False
            slow.put(update(instructions="x" * 20_000))
            for _ in range(100):  # each is answered with the instructions
                slow.put(update(output_modalities=["audio"]))
            await other.speak()
            done = await other.until("response.done")
            assert done["response"]["status"] == "completed"
            assert slow.closed is not None
            assert slow.closed[0] == 1008
        assert server.sessions == 0

    run(script())


def test_a_client_that_sends_nothing_but_errors_is_ended_with_a_reason() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as garbage, connected(server) as other:
            for _ in range(1000):
                garbage.put("x" * 1000)
                await asyncio.sleep(0.001)
            assert garbage.events[-1]["error"]["code"] == "too_many_errors"
            assert garbage.closed == (1008, TOO_MANY_ERRORS)
            assert len(garbage.all("error")) < 110
            await other.speak()
            await other.until("response.done")
        assert server.sessions == 0

    run(script())


@pytest.mark.parametrize("moment_s", [0.0, 0.3, 1.2, 1.5, 1.66, 1.8, 3.0, 4.0])
def test_closing_in_the_middle_of_anything_leaves_no_task_and_no_request(moment_s: float) -> None:
    async def script() -> None:
        server = scripted_server(LONG, SHORT)
        async with connected(server) as socket:
            speaking = asyncio.create_task(socket.speak())
            await asyncio.sleep(moment_s)
            speaking.cancel()
        assert server.sessions == 0
        assert server.parts is not None
        assert [instance.running for instance in server.parts.pool.instances] == [0, 0]  # type: ignore[attr-defined]

    run(script())


def test_a_bug_closes_its_own_connection_with_1011_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None

        def broken(query: Query) -> None:
            raise ZeroDivisionError

        async with connected(server) as socket:
            for instance in server.parts.pool.instances:
                monkeypatch.setattr(instance, "answer", broken)
            await socket.speak()
            await asyncio.sleep(1)
            assert socket.closed == (1011, "internal error")
        assert server.sessions == 0

    run(script())
    assert "ZeroDivisionError" in caplog.text


def test_sessions_beyond_the_limit_are_refused_in_words() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, server={"max_sessions": 1, "max_waiting": 0})
        async with connected(server) as first, connected(server) as second:
            await first.until("session.created")
            await second.until("error")
            assert errors(second) == [("session_limit_reached", None)]
            assert second.closed == (1013, "session_limit_reached")
        async with connected(server) as third:
            await third.until("session.created")

    run(script())


def test_a_client_chooses_among_several_models_by_name() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        other = Pool([ScriptedInstance("other a", (SHORT,))])
        server.parts = replace(server.parts, pools={**server.parts.pools, "other": other})
        async with connected(server, "model=other") as socket:
            assert (await socket.until("session.created"))["session"]["model"] == "other"
            assert sum(other.generators.values()) == 1
        async with connected(server) as socket:
            assert (await socket.until("session.created"))["session"]["model"] == "scripted"
        async with connected(server, "model=gpt-realtime") as socket:
            error = await socket.until("error")
            assert error["error"]["code"] == "model_not_found"
            assert "there are scripted, other" in error["error"]["message"]
        assert sum(other.generators.values()) == 0

    run(script())


def test_with_one_model_any_name_will_do() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "model=gpt-realtime") as socket:
            assert (await socket.until("session.created"))["session"]["model"] == "scripted"

    run(script())


def test_a_dead_engine_gets_no_new_session_and_without_any_they_are_refused() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        first, second = server.parts.pool.instances
        first.close()
        async with connected(server) as socket:
            assert (await socket.until("vita.roles"))["generator"] == second.name
        second.close()
        async with connected(server) as socket:
            await socket.until("error")
            assert errors(socket) == [("server_failed", None)]

    run(script())


def test_a_server_that_is_loading_says_so() -> None:
    async def script() -> None:
        server = Server(scripted_server().config)
        server.progress(0.4, "loading the voice")
        async with connected(server) as socket:
            error = (await socket.until("error"))["error"]
            assert error["code"] == "server_loading"
            assert "loading the voice (40%)" in error["message"]

    run(script())


def test_the_subprotocol_is_echoed_when_offered_and_not_insisted_upon() -> None:
    async def subprotocol(*offered: str) -> str | None:
        async with connected(scripted_server(), subprotocols=offered) as socket:
            await socket.until("session.created")
            return socket.subprotocol

    assert run(subprotocol("realtime", "other")) == "realtime"
    assert run(subprotocol()) is None


def test_sessions_are_spread_over_the_instances() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as first, connected(server) as second, connected(server) as third:
            roles = [await socket.until("vita.roles") for socket in (first, second, third)]
            assert [(event["generator"], event["monitor"]) for event in roles] == [("a", "b"), ("b", "a"), ("a", "b")]

    run(script())


def test_hundreds_of_sessions_leave_no_task_and_no_seat() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        for _ in range(300):
            async with connected(server) as socket:
                socket.put(base64.b64encode(b"x").decode())
                await socket.until("error")
        assert server.sessions == 0
        assert server.parts is not None
        assert set(server.parts.pool.generators.values()) == {0}

    run(script())


# ── what the client says of its playback ───────────────────────────────────────────────


def truncate(item_id: str, audio_end_ms: int) -> Json:
    return {
        "type": "conversation.item.truncate", "event_id": "mine",
        "item_id": item_id, "content_index": 0, "audio_end_ms": audio_end_ms,
    }  # fmt: skip


def typed(text: str) -> list[Json]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    return [{"type": "conversation.item.create", "item": item}, {"type": "response.create"}]


async def last_answer_shown(server: Server, socket: Socket) -> AssistantMessage:
    """What the next request is told of the latest reply."""
    for event in typed("and now?"):
        socket.put(event)
    await asyncio.sleep(0.2)
    assert server.parts is not None
    *_, (answer,) = (
        [message for message in query.history if isinstance(message, AssistantMessage)]
        for instance in server.parts.pool.instances
        for query in instance.queries  # type: ignore[attr-defined]
        if query.history
    )
    return answer


def test_truncating_the_reply_that_is_being_spoken_stops_it_where_the_client_says() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 50)  # 2 s
            item_id = socket.all("response.output_audio.delta")[0]["item_id"]
            socket.put(truncate(item_id, 1000))
            done = await socket.until("response.done")
            check_types(socket)
            [truncated] = socket.all("conversation.item.truncated")
            assert (truncated["item_id"], truncated["audio_end_ms"]) == (item_id, 1000)
            assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
            # A second at 15 characters.
            assert socket.all("vita.heard")[0]["transcript"] == "aaaaa bbbbb ccccc"
            deltas = [event["delta"] for event in socket.all("response.output_audio_transcript.delta")]
            told = socket.all("response.output_audio_transcript.done")[0]["transcript"]
            assert told == done["response"]["output"][0]["content"][0]["transcript"] == "".join(deltas)
            socket.put({"type": "conversation.item.retrieve", "item_id": item_id})
            kept = (await socket.until("conversation.item.retrieved"))["item"]["content"]
            assert kept == [{"type": "output_audio", "transcript": "aaaaa bbbbb ccccc"}]
            assert await last_answer_shown(server, socket) == AssistantMessage("aaaaa bbbbb ccccc", cut=True)

    run(script())


def test_a_reply_that_is_over_is_truncated_in_the_dialogue() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            await socket.speak()
            await socket.until("response.done")
            socket.put(truncate(socket.item("reply", 1), 500))
            await socket.until("conversation.item.truncated")
            socket.put({"type": "conversation.item.retrieve", "item_id": socket.item("reply", 1)})
            kept = (await socket.until("conversation.item.retrieved"))["item"]["content"]
            assert kept == [{"type": "output_audio", "transcript": "It is"}]
            assert await last_answer_shown(server, socket) == AssistantMessage("It is", cut=True)

    run(script())


def test_a_client_that_plays_on_during_a_hold_has_heard_all_that_it_was_sent() -> None:
    async def heard(query: str) -> str:
        doubtful = NOISE.model_copy(update={"glances": (0.6,)})
        async with connected(scripted_server(LONG, doubtful, tts={"lead_ms": 2000}), query) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 60)
            speaking = asyncio.create_task(socket.speak(3.0))
            await asyncio.sleep(2.9)  # it is held for 2.6 s
            socket.put({"type": "response.cancel"})
            await socket.until("response.done")
            await speaking
            socket.put({"type": "conversation.item.retrieve", "item_id": socket.item("reply", 1)})
            kept: str = (await socket.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
            return kept

    plays_on, pauses = run(heard("vita_events=true")), run(heard("vita_events=true&pauses=true"))
    assert plays_on.startswith(pauses)
    assert len(plays_on) - len(pauses) == pytest.approx(2 * 15, abs=6)
    assert run(heard("")) == run(heard("pauses=true")) == plays_on, "who is told of no hold cannot pause"


def test_only_replies_can_be_truncated() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            for item_id in (
                socket.item("user", 1),
                socket.item("reply", 7),
                "item_reply_x",
                "item_reply_",
                "1",
                "item_reply_²",
            ):
                socket.put(truncate(item_id, 100))
            done = await socket.until("response.done")
            assert errors(socket) == [("item_not_found", "mine")] * 6
            assert done["response"]["status"] == "completed"

    run(script())


def test_the_next_request_is_told_as_much_as_the_client_says_it_played() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 50)  # 2 s
            socket.put(
                {"type": "playback.ack", "response_id": "resp_1", "item_id": socket.item("reply", 1), "played_ms": 400}
            )
            assert await last_answer_shown(server, socket) == AssistantMessage("aaaaa", cut=True)
            assert errors(socket) == []
            socket.put(
                {"type": "playback.ack", "event_id": "mine", "item_id": socket.item("user", 1), "played_ms": 400}
            )
            await socket.until("error")
            assert errors(socket) == [("item_not_found", "mine")]

    run(script())
