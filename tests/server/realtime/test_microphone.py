"""The client's audio: where it lies, who hears it, what is refused. On virtual time."""

import asyncio
import base64
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.realtime.test_conversation_events import MANUAL, SHORT, append, errors, item, tone, update
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import InlineExecutor, run
from tests.vad.test_smart_turn import ScriptedTurn
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.events import SpeechEnded, SpeechPaused
from vita_duplex.server.realtime.positions import Positions
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.smart_turn import EndOfTurn

DETECTING: Json = {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
CLEAR = {"type": "input_audio_buffer.clear"}


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * 24_000), np.float32)


async def started_ms(socket: Socket, number: int = 1) -> int:
    return int((await socket.until("input_audio_buffer.speech_started", number))["audio_start_ms"])


def test_positions_count_what_was_sent_while_turn_detection_was_off() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(**MANUAL))
            await socket.say(silence(5))
            socket.put(update(**DETECTING))
            await socket.say(silence(1))
            await socket.speak()
            assert await started_ms(socket) == pytest.approx(6000, abs=64)
            stopped = await socket.until("input_audio_buffer.speech_stopped")
            assert stopped["audio_end_ms"] == pytest.approx(7000, abs=64)

    run(script())


def test_positions_count_what_was_cleared() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(append(bytes(2 * 24_000 * 10)))
            socket.put(CLEAR)
            await socket.until("input_audio_buffer.cleared")
            await socket.speak()
            assert await started_ms(socket) == pytest.approx(10_000, abs=64)

    run(script())


def test_positions_count_what_was_refused() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT, limits={"audio_ahead_s": 2})) as socket:
            socket.put(append(bytes(2 * 24_000 * 10)))
            await socket.until("error")
            await asyncio.sleep(5)
            await socket.speak()
            assert await started_ms(socket) == pytest.approx(10_000, abs=64)

    run(script())


def test_a_silence_that_times_out_lies_where_the_speech_lies() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(update(**MANUAL))
            await socket.say(silence(5))
            detection = {"type": "server_vad", "idle_timeout_ms": 2000}
            socket.put(update(audio={"input": {"turn_detection": detection}}))
            await socket.speak()
            begin = await started_ms(socket)
            while not socket.all("input_audio_buffer.timeout_triggered"):
                await socket.say(silence(0.1))
            timed_out = socket.all("input_audio_buffer.timeout_triggered")[0]
            done = socket.times[socket.kinds().index("response.done")]
            told = socket.times[socket.kinds().index("input_audio_buffer.timeout_triggered")]
            assert begin == pytest.approx(5000, abs=64)
            assert timed_out["audio_end_ms"] - timed_out["audio_start_ms"] == pytest.approx(2000, abs=64)
            assert timed_out["audio_end_ms"] == pytest.approx(1000 * told, abs=300), "from the beginning of the session"
            assert told - done == pytest.approx(2, abs=0.2)

    run(script())


def test_push_to_talk_ends_an_utterance_that_a_hint_has_lengthened() -> None:
    """It sounds unfinished, so the pause may last 4 s; without turn detection nobody waits for that."""

    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        server.parts = replace(server.parts, turn_judge=EndOfTurn(ScriptedTurn(0.05), InlineExecutor()))
        async with connected(server) as socket:
            detection = {"type": "semantic_vad", "eagerness": "low"}
            socket.put(update(audio={"input": {"turn_detection": detection}}))
            await socket.say(np.sin(np.arange(24_000) / 20).astype(np.float32))
            await socket.say(silence(0.6))
            socket.put(update(**MANUAL))
            await asyncio.sleep(2)
            assert len(socket.all("input_audio_buffer.speech_stopped")) == 1

    run(script())


class LateTurn(EndOfTurn):
    """Its answer comes when it is set."""

    def ask(self, samples: Samples) -> "asyncio.Future[float]":
        self.answer = asyncio.get_running_loop().create_future()
        return self.answer


def test_a_hint_that_comes_after_hints_are_off_lengthens_nothing() -> None:
    async def script() -> None:
        config, judge = EndpointConfig(hint=True), LateTurn(ScriptedTurn(0.05), InlineExecutor())
        listener = MicrophoneListener(Detector(LevelVad(), InlineExecutor()), config, count(1), judge)
        events: list[object] = []

        async def listen() -> None:
            async for heard in listener.run():
                events.append(heard.event)

        listening = asyncio.create_task(listen())
        listener.hear(np.sin(np.arange(16_000) / 20).astype(np.float32))
        listener.hear(np.zeros(5_000, np.float32))
        await asyncio.sleep(1)
        assert SpeechPaused(1) in events
        listener.configure(EndpointConfig(hint=False))
        judge.answer.set_result(0.05)
        await asyncio.sleep(1)
        listener.hear(np.zeros(5_000, np.float32))
        await asyncio.sleep(1)
        assert events[-1] == SpeechEnded(1)
        listening.cancel()

    run(script())


# ── what is refused is not decoded ─────────────────────────────────────────────────────

NONSENSE = "!" * 12_000_000
"""187 s of PCM16 by its length, and no base64."""


def test_audio_that_is_refused_is_not_decoded() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put({"type": "input_audio_buffer.append", "audio": NONSENSE})
            await socket.until("error")
            socket.put(update(**MANUAL))
            await asyncio.sleep(60)
            socket.put(append(tone(1)))
            socket.put({"type": "input_audio_buffer.append", "audio": NONSENSE[: 61 * 64_000]})
            socket.put({"type": "input_audio_buffer.append", "audio": NONSENSE[:64_000]})
            await socket.until("error", 3)
            assert errors(socket) == ["input_audio_overflow", "input_audio_overflow", "invalid_base64"]

    run(script())


def test_a_recording_that_is_too_long_for_a_message_is_not_decoded() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            for audio in (NONSENSE, NONSENSE[:64_000], base64.b64encode(tone(30)).decode()):
                socket.put(item("", content=[{"type": "input_audio", "audio": audio}]))
            await socket.until("conversation.item.added")
            assert errors(socket) == ["audio_too_long", "invalid_base64"]

    run(script())


# ── positions ──────────────────────────────────────────────────────────────────────────


@given(st.lists(st.tuples(st.sampled_from(["hear", "skip", "pad"]), st.integers(1, 40)), max_size=30))
def test_every_sample_that_was_heard_is_found_where_it_was_sent(steps: list[tuple[str, int]]) -> None:
    positions, sent, truth = Positions(), 0, dict[int, int]()
    heard = 0
    for kind, tenths in steps:
        samples = tenths * INPUT_RATE // 10
        if kind == "hear":
            truth |= {heard + at: sent + at for at in range(0, samples, INPUT_RATE // 10)}
        sent += 0 if kind == "pad" else samples
        heard += 0 if kind == "skip" else samples
        positions.advance(received=0 if kind == "pad" else samples, heard=0 if kind == "skip" else samples)
    assert positions.received == sent
    for at, where in truth.items():
        assert positions.find_ms(at * 1000 // INPUT_RATE) == where * 1000 // INPUT_RATE


def test_what_was_cleared_is_found_nowhere() -> None:
    positions = Positions()
    positions.advance(received=5 * INPUT_RATE, heard=5 * INPUT_RATE)
    positions.advance(received=0, heard=-2 * INPUT_RATE)
    positions.advance(received=INPUT_RATE, heard=INPUT_RATE)
    assert [positions.find_ms(ms) for ms in (2000, 3000, 3500)] == [2000, 5000, 5500]
