"""What a client may do with a conversation, over an in-process WebSocket on virtual time; each event typed."""

import asyncio
import base64
import io
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from openai.types.realtime import RealtimeServerEvent
from PIL import Image
from pydantic import TypeAdapter

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.dialogue import AUDIO_LIMIT_S
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage
from vita_duplex.server.audio.formats import PCMA, PCMU, AudioFormat, pcm
from vita_duplex.server.realtime.event_writer import AUDIO_HEADER
from vita_duplex.server.server import Server
from vita_duplex.tts.voices.scripted import PITCHES_HZ, HummingVoice

SHORT = ScriptedReply(transcript="what is it", text="It is short, and this is its end.")
LONG = ScriptedReply(transcript="tell me more", text=" ".join("abcdefghij"[n % 10] * 5 for n in range(80)) + ".")
NOISE = ScriptedReply(p1=0.1, transcript="secret words", text="secret answer")
MANUAL = {"audio": {"input": {"turn_detection": None}}}
reference = TypeAdapter[Any](RealtimeServerEvent)


def update(**session: Any) -> Json:
    return {"type": "session.update", "event_id": "mine", "session": {"type": "realtime", **session}}


def item(text: str, **fields: Any) -> Json:
    content = [{"type": "input_text", "text": text}]
    return {
        "type": "conversation.item.create",
        "event_id": "mine",
        "item": {"type": "message", "role": "user", "content": content, **fields},
    }


def respond(**response: Any) -> Json:
    return {"type": "response.create", "event_id": "mine", "response": response}


def append(data: bytes) -> Json:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}


def tone(seconds: float, rate: int = 24_000) -> bytes:
    return pcm(rate).encode((0.3 * np.sin(np.arange(int(seconds * rate)) / 20)).astype(np.float32))


def errors(socket: Socket) -> list[str]:
    return [event["error"]["code"] for event in socket.all("error")]


def check_types(socket: Socket) -> None:
    """Every event the reference knows has the reference's shape."""
    for event in socket.events:
        if not event["type"].startswith("vita."):
            assert reference.validate_python(event).type == event["type"]


def queries(server: Server) -> list[Query]:
    assert server.parts is not None
    return [query for instance in server.parts.pool.instances for query in instance.queries]  # type: ignore[attr-defined]


# ── push to talk ───────────────────────────────────────────────────────────────────────


def test_push_to_talk_commits_on_request_and_answers_on_request() -> None:
    async def script() -> None:
        server = scripted_server(NOISE)  # a verdict of "not for us" does not count: the button says it is
        async with connected(server, "") as socket:
            socket.put(update(**MANUAL))
            socket.put(append(tone(1.0)))
            await asyncio.sleep(3)
            assert socket.kinds() == ["session.created", "session.updated"]
            socket.put({"type": "input_audio_buffer.commit"})
            await socket.until("conversation.item.done")
            await asyncio.sleep(3)
            assert socket.kinds()[2:] == [
                "input_audio_buffer.committed", "conversation.item.added", "conversation.item.done",
            ]  # fmt: skip
            socket.put(respond())
            done = await socket.until("response.done")
            check_types(socket)
            assert done["response"]["status"] == "completed"
            [words] = socket.all("conversation.item.input_audio_transcription.completed")
            assert (words["item_id"], words["transcript"]) == (socket.item("user", 1), "secret words")
            assert words["usage"] == {"type": "duration", "seconds": 1.0}
            [query] = queries(server)
            assert query.utterances[0].samples is not None
            assert len(query.utterances[0].samples) == pytest.approx(16_000, rel=0.01)
            for event in (item("and now?"), respond()):
                socket.put(event)
            await socket.until("response.done", 2)
            assert queries(server)[-1].history == (UserMessage("secret words"), AssistantMessage("secret answer"))

    run(script())


def test_an_empty_or_cleared_buffer_cannot_be_committed() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(**MANUAL))
            for data in (tone(0.05), tone(0.5)):
                socket.put(append(data))
            socket.put({"type": "input_audio_buffer.clear"})
            socket.put({"type": "input_audio_buffer.commit"})
            await socket.until("error")
            assert errors(socket) == ["input_audio_buffer_commit_empty"]

    run(script())


def test_a_held_button_is_bounded() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(**MANUAL))
            for _ in range(AUDIO_LIMIT_S + 1):
                socket.put(append(tone(1.0)))
                await asyncio.sleep(1)
            await socket.until("error")
            assert errors(socket) == ["input_audio_overflow"]

    run(script())


def test_switching_to_push_to_talk_in_mid_speech_ends_that_utterance() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            await socket.say(np.sin(np.arange(24_000) / 20).astype(np.float32))
            await socket.until("vita.speech")
            socket.put(update(**MANUAL))
            await socket.until("response.done")
            assert socket.all("session.updated")[0]["session"]["audio"]["input"]["turn_detection"] is None

    run(script())


def test_server_vad_behind_semantic_vad_has_the_silence_of_the_server() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            for number, detection in enumerate(
                (
                    {"type": "semantic_vad", "eagerness": "low"},
                    {"type": "server_vad"},
                    {"type": "server_vad", "silence_duration_ms": 300},
                    {"type": "server_vad", "threshold": 0.7},
                ),
                1,
            ):
                socket.put(update(audio={"input": {"turn_detection": detection}}))
                await socket.until("session.updated", number)
            shown = [event["session"]["audio"]["input"]["turn_detection"] for event in socket.all("session.updated")]
            assert [one["silence_duration_ms"] for one in shown[1:]] == [500, 300, 500]

    run(script())


def test_detected_speech_may_wait_for_response_create() -> None:
    async def script() -> None:
        server = scripted_server(NOISE)
        async with connected(server, "") as socket:
            detection = {"type": "server_vad", "create_response": False}
            socket.put(update(audio={"input": {"turn_detection": detection}}))
            await socket.speak()
            await socket.until("input_audio_buffer.committed")
            await asyncio.sleep(3)
            assert queries(server) == []
            socket.put(respond())
            done = await socket.until("response.done")
            check_types(socket)
            assert done["response"]["status"] == "completed"

    run(script())


def test_speech_that_began_before_a_typed_question_and_ended_after_it_can_be_asked_about_as_well() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            detection = {"type": "server_vad", "create_response": False}
            socket.put(update(audio={"input": {"turn_detection": detection}}))
            speaking = asyncio.create_task(socket.speak(3.0))
            await socket.until("input_audio_buffer.speech_started")
            socket.put(item("And what is this?"))
            socket.put(respond())
            await socket.until("response.created")
            await speaking
            await socket.until("input_audio_buffer.committed")
            socket.put(respond())
            await socket.until("response.done", 2)
            assert errors(socket) == []

    run(script())


def test_without_interrupting_what_is_said_into_a_reply_is_ignored() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, SHORT)) as socket:
            detection = {"type": "semantic_vad", "eagerness": "low", "interrupt_response": False}
            socket.put(update(audio={"input": {"turn_detection": detection}}))
            shown = (await socket.until("session.updated"))["session"]["audio"]["input"]["turn_detection"]
            assert shown == {**detection, "create_response": True}
            await socket.speak()
            await socket.say(np.zeros(12_000, np.float32))  # `low` waits for a second of silence
            await socket.until("response.output_audio.delta", 10)
            await socket.speak()
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"
            assert len(socket.all("response.created")) == 1

    run(script())


# ── settings of our own ────────────────────────────────────────────────────────────────


def own(socket: Socket) -> Json | None:
    """As last shown."""
    shown: Json | None = [event for event in socket.events if event["type"].startswith("session.")][-1]["session"].get(
        "vita"
    )
    return shown


def test_own_settings_are_shown_to_those_who_ask_for_them_and_to_nobody_else() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, duplex={"verdict_threshold": 0.4}, vad={"echo": {"guard": True}})
        async with connected(server) as socket, connected(server, "") as stock:
            await socket.until("session.created")
            all_of = {"speaking": 0.4, "after": 0.4, "idle": 0.4}
            shown = {"verdict_threshold": 0.4, "threshold": all_of, "tools": True}
            assert own(socket) == {"barge_in": "hold", **shown, "echo_guard": True}
            for each in (socket, stock):
                each.put(update(vita={"barge_in": "verdict", "echo_guard": False}))
                await each.until("session.updated")
            assert own(socket) == {"barge_in": "verdict", **shown, "echo_guard": False}
            assert own(stock) is None
            check_types(stock)

    run(script())


def test_the_old_threshold_is_that_of_all_situations_and_each_may_have_its_own() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, duplex={"verdict_threshold": 0.4, "threshold": {"after": 0.3}})
        async with connected(server) as socket:
            await socket.until("session.created")
            told = []
            for vita in ({"threshold": {"speaking": 0.7}}, {"verdict_threshold": 0.6, "threshold": {"idle": 0.2}}):
                socket.put(update(vita=vita))
                await socket.until("session.updated", len(told) + 1)
                shown = own(socket)
                assert shown
                told.append(shown["threshold"])
        assert told == [{"speaking": 0.7, "after": 0.3, "idle": 0.4}, {"speaking": 0.6, "after": 0.6, "idle": 0.2}]

    run(script())


def test_barge_in_is_off_when_either_way_of_saying_so_says_so() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            seen = []
            for detection, barge_in in (
                ({"type": "server_vad", "interrupt_response": False}, "verdict"),
                ({"type": "server_vad", "interrupt_response": True}, None),
                ({"type": "server_vad"}, "off"),
                ({"type": "server_vad", "interrupt_response": True}, None),
                ({"type": "server_vad"}, "hold"),
            ):
                audio = {"input": {"turn_detection": detection}}
                socket.put(update(audio=audio, vita={"barge_in": barge_in}))
                shown = (await socket.until("session.updated", len(seen) + 1))["session"]
                interrupts = shown["audio"]["input"]["turn_detection"]["interrupt_response"]
                assert interrupts == (shown["vita"]["barge_in"] != "off")
                seen.append(shown["vita"]["barge_in"])
            assert seen == ["off", "verdict", "off", "off", "hold"]

    run(script())


def test_a_session_decides_by_its_own_threshold_from_the_next_utterance_on() -> None:
    async def script() -> None:
        doubtful = SHORT.model_copy(update={"p1": 0.7})
        server = scripted_server(doubtful, doubtful)
        async with connected(server) as socket, connected(server) as other:
            socket.put(update(vita={"verdict_threshold": 0.9}))
            for each in (socket, other):
                await each.speak()
                verdict = await each.until("vita.verdict")
                assert verdict["accepted"] == (each is other)
            socket.put(update(vita={"verdict_threshold": 0.5}))
            await socket.speak()
            assert (await socket.until("vita.verdict", 2))["accepted"]

    run(script())


def test_barge_in_can_be_switched_in_mid_reply() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, NOISE, NOISE, NOISE)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 5)
            held = []
            for barge_in in ("off", "verdict", "hold"):
                socket.put(update(vita={"barge_in": barge_in}))
                before = len(socket.all("vita.verdict"))
                await socket.speak()
                await asyncio.sleep(1)
                held.append((len(socket.all("vita.verdict")) - before, len(socket.all("vita.hold"))))
            assert held == [(0, 0), (1, 0), (1, 1)]
            assert (await socket.until("response.done"))["response"]["status"] == "completed"

    run(script())


def test_a_session_can_have_its_echo_taken_out() -> None:
    """The microphone hears the reply itself: with the guard that is not a barge-in."""

    async def script() -> list[int]:
        heard = []
        for guarded in (False, True, "auto"):
            async with connected(scripted_server(LONG)) as socket:
                socket.put(update(vita={"echo_guard": guarded}))
                await socket.speak()
                for _ in range(300):
                    echo = socket.audio("resp_1")[-480:]
                    await socket.say(np.resize(echo, 480) if len(echo) else np.zeros(480, np.float32))
                heard.append(len(socket.all("vita.hold")))
        return heard

    without, guarded, auto = run(script())
    assert without > guarded == auto == 0


def test_a_guard_that_is_not_installed_is_refused_and_nothing_else_of_the_update_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pywebrtc_audio", None)

    async def script() -> None:
        async with connected(scripted_server(SHORT, vad={"echo": {"guard": False}})) as socket:
            socket.put(update(instructions="Be brief.", vita={"echo_guard": True, "barge_in": "off"}))
            error = (await socket.until("error"))["error"]
            assert (error["code"], error["param"]) == ("unsupported_value", "session.vita.echo_guard")
            socket.put(update())
            shown = (await socket.until("session.updated"))["session"]
            assert (shown["instructions"], shown["vita"]["echo_guard"], shown["vita"]["barge_in"]) == (
                "",
                False,
                "hold",
            )

    run(script())


# ── voices ─────────────────────────────────────────────────────────────────────────────


def choir() -> Server:
    """A server whose voices are told apart by their pitch."""
    server = scripted_server(LONG, SHORT, tts={"kind": "humming"})
    assert server.parts is not None
    voices = {name: HummingVoice(pitch_hz=pitch) for name, pitch in PITCHES_HZ.items()}
    server.parts = replace(server.parts, voices=voices)
    return server


def speaker(socket: Socket, response_id: str) -> str:
    """Whose voice that was."""
    samples = socket.audio(response_id)
    peak = np.fft.rfftfreq(len(samples), 1 / 24_000)[np.abs(np.fft.rfft(samples)).argmax()]
    return min(PITCHES_HZ, key=lambda name: abs(PITCHES_HZ[name] - peak))


def voiced(voice: Any) -> Json:
    return {"output": {"voice": voice}}


def test_a_session_chooses_its_voice() -> None:
    async def script() -> None:
        async with connected(choir(), "") as socket:
            assert (await socket.until("session.created"))["session"]["audio"]["output"]["voice"] == "humming"
            for number, (wanted, effective) in enumerate(
                (
                    ("humming-low", "humming-low"),
                    ({"id": "humming-high"}, "humming-high"),
                    (None, "humming-high"),
                    ("marin", "humming"),
                ),
                1,
            ):
                socket.put(update(audio=voiced(wanted)))
                shown = (await socket.until("session.updated", number))["session"]["audio"]["output"]["voice"]
                for event in (item("what is it?"), respond()):
                    socket.put(event)
                await socket.until("response.done", number)
                assert (shown, speaker(socket, f"resp_{number}")) == (effective, effective)
            check_types(socket)

    run(script())


def test_another_voice_speaks_from_the_next_reply_on() -> None:
    async def script() -> None:
        async with connected(choir()) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta", 5)
            socket.put(update(audio=voiced("humming-low")))
            assert (await socket.until("response.done"))["response"]["status"] == "completed"
            await socket.speak()
            await socket.until("response.done", 2)
            assert [speaker(socket, f"resp_{number}") for number in (1, 2)] == ["humming", "humming-low"]

    run(script())


def test_a_single_response_may_have_a_voice_of_its_own() -> None:
    async def script() -> None:
        async with connected(choir()) as socket:
            for number, voice in enumerate(("humming-high", "humming"), 1):
                wanted = {"audio": voiced(voice)} if number == 1 else {}
                for event in (item("what is it?"), respond(**wanted)):
                    socket.put(event)
                await socket.until("response.done", number)
                assert speaker(socket, f"resp_{number}") == voice
            socket.put(respond(instructions="Greet me.", audio=voiced("nobody")))
            error = (await socket.until("error"))["error"]
            assert (error["param"], error["event_id"]) == ("response.audio.output.voice", "mine")
            assert len(socket.all("response.created")) == 2

    run(script())


@pytest.mark.parametrize(
    "voice", ["nobody", "", "x" * 400, "x" * 1_000_000, 5, ["alloy"], {}, {"id": None}, {"id": "x"}]
)
def test_what_is_no_voice_is_refused_and_nothing_else_of_the_update_is_done(voice: Any) -> None:
    async def script() -> None:
        async with connected(choir()) as socket:
            socket.put(update(instructions="Be brief.", audio=voiced(voice)))
            error = (await socket.until("error"))["error"]
            assert (error["code"], error["param"]) == ("invalid_value", "session.audio.output.voice")
            assert len(error["message"]) < 500
            if isinstance(voice, str) and len(voice) < 500:
                assert error["message"].endswith("choose one of humming, humming-low, humming-high.")
            socket.put(update())
            session = (await socket.until("session.updated"))["session"]
            assert (session["instructions"], session["audio"]["output"]["voice"]) == ("", "humming")

    run(script())


# ── items ──────────────────────────────────────────────────────────────────────────────


def test_items_are_retrieved_and_deleted_and_the_dialogue_knows() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for event in (item("one", id="mine-1"), respond()):
                socket.put(event)
            await socket.until("response.done")
            for item_id in ("mine-1", socket.item("reply", 1)):
                socket.put({"type": "conversation.item.retrieve", "item_id": item_id})
            await socket.until("conversation.item.retrieved", 2)
            first, second = (event["item"] for event in socket.all("conversation.item.retrieved"))
            assert (first["id"], first["content"]) == ("mine-1", [{"type": "input_text", "text": "one"}])
            assert second["content"] == [{"type": "output_audio", "transcript": SHORT.text}]
            socket.put({"type": "conversation.item.delete", "item_id": socket.item("reply", 1)})
            for event in (item("two"), respond()):
                socket.put(event)
            await socket.until("response.done", 2)
            assert queries(server)[-1].history == (UserMessage("one"),)
            socket.put({"type": "conversation.item.delete", "item_id": "mine-1"})
            socket.put({"type": "conversation.item.delete", "item_id": "mine-1", "event_id": "again"})
            await socket.until("error")
            check_types(socket)
            assert [event["item_id"] for event in socket.all("conversation.item.deleted")] == [
                socket.item("reply", 1),
                "mine-1",
            ]
            assert errors(socket) == ["item_not_found"]

    run(script())


def test_an_assistant_message_that_was_added_is_deleted_from_the_dialogue() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            content = [{"type": "output_text", "text": "THE CODE WORD"}]
            message = {"type": "message", "role": "assistant", "content": content, "id": "a"}
            socket.put({"type": "conversation.item.create", "item": message})
            socket.put({"type": "conversation.item.delete", "item_id": "a"})
            for event in (item("one"), respond()):
                socket.put(event)
            await socket.until("response.done")
            assert [event["item_id"] for event in socket.all("conversation.item.deleted")] == ["a"]
            assert queries(server)[-1].history == ()

    run(script())


def test_an_earlier_conversation_can_be_brought_along() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(update(instructions="Be kind."))
            socket.put(item("Speak like a pirate.", role="system"))
            socket.put(item("Who are you?"))
            content = [{"type": "output_text", "text": "A pirate."}]
            said = {"type": "message", "role": "assistant", "content": content}
            socket.put({"type": "conversation.item.create", "item": said})
            for event in (item("Really?"), respond()):
                socket.put(event)
            await socket.until("response.done")
            check_types(socket)
            [query] = queries(server)
            assert query.instructions == "Be kind.\n\nSpeak like a pirate."
            assert query.history == (UserMessage("Who are you?"), AssistantMessage("A pirate."))
            assert [utterance.text for utterance in query.utterances] == ["Really?"]

    run(script())


def test_a_recording_in_a_message_is_asked_about_like_a_spoken_one() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            content = [{"type": "input_audio", "audio": base64.b64encode(tone(1.5)).decode()}]
            socket.put(item("", content=content))
            socket.put(respond())
            await socket.until("response.done")
            check_types(socket)
            [query] = queries(server)
            assert query.utterances[0].samples is not None
            assert len(query.utterances[0].samples) == 24_000

    run(script())


def png(size: tuple[int, int] = (40, 30), colour: tuple[int, int, int] = (200, 10, 10)) -> str:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def see(url: str, text: str = "What is this?") -> Json:
    return item("", content=[{"type": "input_image", "image_url": url}, {"type": "input_text", "text": text}])


def test_a_picture_is_shown_to_the_model_until_it_is_deleted() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for event in (see(png()), respond(), item("and its colour?"), respond()):
                socket.put(event)
                await asyncio.sleep(5)
            await socket.speak()
            await socket.until("response.done", 3)
            check_types(socket)
            assert [[frame.shape for frame in query.frames] for query in queries(server)] == [[(30, 40, 3)]] * 3
            assert (queries(server)[0].frames[0] == [200, 10, 10]).all()
            socket.put({"type": "conversation.item.delete", "item_id": socket.item("user", 1)})
            for event in (item("and now?"), respond()):
                socket.put(event)
            await socket.until("response.done", 4)
            assert min(len(query.frames) for query in queries(server)) == 0

    run_threads(script())


@pytest.mark.parametrize(
    ("sessions", "step", "shades"), [(7, 0, [1, 2, 3, 4]), (8, 1, [2, 4]), (9, 2, []), (10, 3, [])]
)
def test_a_full_server_shows_fewer_camera_frames_then_none(sessions: int, step: int, shades: list[int]) -> None:
    async def script() -> None:
        server = scripted_server(SHORT, server={"max_sessions": 10})
        async with AsyncExitStack() as stack:
            for _ in range(sessions):
                socket = await stack.enter_async_context(connected(server))
            frames = [{"type": "input_image", "image_url": png(colour=(shade, 0, 0))} for shade in (1, 2, 3, 4)]
            question = {"type": "input_text", "text": "What do you see?"}
            for event in (item("", content=[*frames, question]), respond()):
                socket.put(event)
            await socket.until("response.done")
            assert [int(frame[0, 0, 0]) for frame in queries(server)[-1].frames] == shades
            told = [(event["frames_shown"], event["frames_sent"]) for event in socket.all("vita.shed")]
            assert told == ([] if step == 0 else [(len(shades), 4)])
            metrics = server.metrics.text().decode()
            assert f"\nvita_duplex_shedding {step}.0\n" in metrics
            assert f"\nvita_duplex_shed_frames_total {4.0 - len(shades)}\n" in metrics
            for event in (see(png()), respond()):
                socket.put(event)
            await socket.until("response.done", 2)
            assert len(queries(server)[-1].frames) == 1, "a photograph stays"

    run_threads(script())


def run_threads(main: Any) -> None:
    """On virtual time, with the work of threads done in place: pictures are decoded in one."""

    async def inline(work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", inline)
        run(main)


@pytest.mark.parametrize(
    "url", ["https://example.org/cat.png", "data:image/gif;base64,R0lGODlhAQABAAAAACw=", "data:image/png;base64,AAAA",
            "data:image/png;base64,!", "data:image/png;base64," + "A" * 100, "data:,", "x" * 100_000],
    ids=lambda url: url[:30],
)  # fmt: skip
def test_what_is_no_picture_is_refused(url: str) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(see(url))
            await socket.until("error")
            assert errors(socket) == ["invalid_image"]
            assert socket.all("conversation.item.added") == []

    run_threads(script())


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(see(png((5000, 5000))))
            await socket.until("error")
            assert errors(socket) == ["invalid_image"]
            assert "pixels" in socket.all("error")[0]["error"]["message"]

    run_threads(script())


def test_a_model_that_cannot_see_says_so() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        for instance in server.parts.pool.instances:
            instance.sees = False
        async with connected(server) as socket:
            socket.put(see(png()))
            await socket.until("error")
            assert errors(socket) == ["image_not_supported"]

    run_threads(script())


# ── responses ──────────────────────────────────────────────────────────────────────────


def test_a_reply_can_be_text_only_with_instructions_of_its_own() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(update(instructions="Be kind."))
            socket.put(item("what is it?"))
            socket.put(respond(output_modalities=["text"], instructions="Be rude.", metadata={"for": "me"}))
            done = (await socket.until("response.done"))["response"]
            check_types(socket)
            assert queries(server)[0].instructions == "Be rude."
            assert (done["output_modalities"], done["metadata"]) == (["text"], {"for": "me"})
            assert done["output"][0]["content"] == [{"type": "output_text", "text": SHORT.text}]
            assert done["usage"] == {"total_tokens": 11, "input_tokens": 3, "output_tokens": 8}
            kinds = socket.kinds()
            assert kinds[kinds.index("response.created") :] == [
                "response.created", "rate_limits.updated", "response.output_item.added", "conversation.item.added",
                "response.content_part.added", *["response.output_text.delta"] * 8, "response.output_text.done",
                "response.content_part.done", "response.output_item.done", "conversation.item.done", "response.done",
                "vita.timeline",
            ]  # fmt: skip
            assert "".join(event["delta"] for event in socket.all("response.output_text.delta")) == SHORT.text
            for event in (item("and now?"), respond()):
                socket.put(event)
            second = (await socket.until("response.done", 2))["response"]
            assert second["output_modalities"] == ["audio"]
            assert queries(server)[-1].instructions == "Be kind."
            assert queries(server)[-1].history[-1] == AssistantMessage(SHORT.text)

    run(script())


def test_a_session_can_be_text_only() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(output_modalities=["text"]))
            await socket.speak()
            await socket.until("response.done")
            check_types(socket)
            assert socket.all("response.output_audio.delta") == []
            assert "".join(event["delta"] for event in socket.all("response.output_text.delta")) == SHORT.text

    run(script())


def test_a_reply_has_a_maximum_length() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(item("what is it?"))
            socket.put(respond(max_output_tokens=3, output_modalities=["text"]))
            done = (await socket.until("response.done"))["response"]
            check_types(socket)
            assert (done["status"], done["status_details"]) == (
                "incomplete", {"type": "incomplete", "reason": "max_output_tokens"},
            )  # fmt: skip
            assert done["output"][0]["content"][0]["text"] == "It is short,"
            assert done["max_output_tokens"] == 3
            assert done["usage"]["output_tokens"] == 3

    run(script())


def test_beside_the_conversation_a_question_is_answered_in_text_and_leaves_no_trace() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            question = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Classify."}]}
            socket.put(respond(conversation="none", input=[question], metadata={"topic": "yes"}))
            done = (await socket.until("response.done"))["response"]
            assert (done["id"], done["metadata"]) == ("resp_aside_2", {"topic": "yes"})
            assert (done["conversation_id"], done["output_modalities"]) == (None, ["text"])
            assert done["output"][0]["content"][0]["text"] == LONG.text
            spoken = (await socket.until("response.done", 2))["response"]
            check_types(socket)
            assert spoken["status"] == "completed", "it went on meanwhile"
            assert [event["item"]["id"] for event in socket.all("conversation.item.added")] == [
                socket.item("user", 1), socket.item("reply", 1),
            ]  # fmt: skip
            socket.put(respond(conversation="none", input=[question], output_modalities=["audio"]))
            await socket.until("error")
            assert errors(socket) == ["unsupported_value"]

    run(script())


def test_a_response_beside_the_conversation_can_be_cancelled_and_there_are_only_so_many() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG)) as socket:
            for _ in range(5):
                socket.put(respond(conversation="none", instructions="Count."))
            await socket.until("error")
            assert errors(socket) == ["too_many_responses"]
            socket.put({"type": "response.cancel", "response_id": "resp_aside_1"})
            done = (await socket.until("response.done"))["response"]
            assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
            await socket.until("response.done", 4)
            check_types(socket)

    run(script())


def test_clearing_the_output_stops_the_reply() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            socket.put({"type": "output_audio_buffer.clear"})
            done = await socket.until("response.done")
            check_types(socket)
            assert done["response"]["status_details"]["reason"] == "client_cancelled"
            assert socket.all("output_audio_buffer.cleared")[0]["response_id"] == "resp_1"

    run(script())


# ── formats ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("wire", [PCMU, PCMA, pcm(16_000)], ids=lambda wire: wire.type)
def test_audio_in_any_format_and_either_kind_of_frame(wire: AudioFormat, binary: bool) -> None:
    async def script() -> None:
        wanted = {"format": wire.describe()}
        async with connected(scripted_server(SHORT), "binary_audio=true" if binary else "") as socket:
            socket.put(update(audio={"input": wanted, "output": wanted}))
            shown = (await socket.until("session.updated"))["session"]["audio"]
            assert (shown["input"]["format"], shown["output"]["format"]) == (wire.describe(), wire.describe())
            loud = (0.3 * np.sin(np.arange(wire.rate) / 8)).astype(np.float32)
            speech = np.concatenate([loud, np.zeros(wire.rate, np.float32)])
            for start in range(0, len(speech), wire.rate // 50):
                data = wire.encode(speech[start : start + wire.rate // 50])
                socket.put(data if binary else append(data))
                await asyncio.sleep(0.02)
            done = await socket.until("response.done")
            stopped = socket.all("input_audio_buffer.speech_stopped")[0]
            assert stopped["audio_end_ms"] == pytest.approx(1000, abs=64)
            if binary:
                assert socket.all("response.output_audio.delta") == []
                heads = [AUDIO_HEADER.unpack_from(frame) for frame in socket.frames]
                assert {turn for turn, _ in heads} == {1}
                audio = b"".join(frame[AUDIO_HEADER.size :] for frame in socket.frames)
            else:
                deltas = socket.all("response.output_audio.delta")
                audio = b"".join(base64.b64decode(event["delta"]) for event in deltas)
            seconds = len(audio) / wire.width / wire.rate
            assert done["response"]["status"] == "completed"
            assert seconds == pytest.approx((len(SHORT.text) - 1) / 15, rel=0.01)

    run(script())
