"""The end of a turn: who is asked, what an answer does, and what the real model makes of real speech."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from importlib.util import find_spec
from itertools import count

import numpy as np
import pytest

from tests.support import sounds
from tests.support.conversations import conversation
from tests.support.overlaps import Storyteller
from tests.support.virtual_time import InlineExecutor, run
from tests.vad.test_listener import listen, sound
from vita_duplex.asr.local import LocalAsr
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import SpeechEnded, SpeechPaused
from vita_duplex.engine.notices import UserStopped
from vita_duplex.engine.ports import Heard
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.session_settings import SessionSettings
from vita_duplex.server.voice_names import VoiceNames
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import WINDOW, EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import Silero
from vita_duplex.vad.smart_turn import WAITING_LIMIT, EndOfTurn, SmartTurn, features


class ScriptedTurn(SmartTurn):
    """Has the same opinion of everything, or none."""

    def __init__(self, opinion: float | Exception) -> None:
        self.opinion = opinion
        self.asked: list[int] = []

    def completeness(self, samples: Samples) -> float:
        self.asked.append(len(samples))
        if isinstance(self.opinion, Exception):
            raise self.opinion
        return self.opinion


def heard_with(model: ScriptedTurn, config: EndpointConfig) -> list[Heard]:
    async def script() -> list[Heard]:
        judge = EndOfTurn(model, InlineExecutor())
        listener = MicrophoneListener(Detector(LevelVad(), InlineExecutor()), config, count(1), judge)
        samples = sound(20 * WINDOW, 10 * WINDOW, 60 * WINDOW)
        frames = [samples[at : at + WINDOW] for at in range(0, len(samples), WINDOW)]
        return await listen(frames, listener, pause=0.032)

    return run(script())


@pytest.mark.parametrize(
    ("opinion", "hint", "silence"),
    [(1.0, True, 10), (0.0, True, 50), (MemoryError(), True, 16), (1.0, False, 16)],
)
def test_the_model_is_asked_in_a_pause_and_its_answer_moves_the_end(
    opinion: float | Exception, hint: bool, silence: int
) -> None:
    model = ScriptedTurn(opinion)
    heard = heard_with(model, EndpointConfig(hint=hint, quick_ms=320, patient_ms=1600))
    [paused] = [one for one in heard if isinstance(one.event, SpeechPaused)]
    [ended] = [one for one in heard if isinstance(one.event, SpeechEnded)]
    assert paused.samples is not None
    assert model.asked == ([len(paused.samples)] if hint else [])
    assert ended.now == (30 + silence) * WINDOW


@pytest.mark.parametrize(("which", "silence"), [(0, 16), (1, 50)])
def test_words_count_for_the_pause_they_were_heard_in(which: int, silence: int) -> None:
    class Reading(MicrophoneListener):
        async def run(self) -> AsyncGenerator[Heard]:
            pauses: list[Samples] = []
            async for heard in super().run():
                yield heard
                if isinstance(heard.event, SpeechPaused):
                    assert heard.samples is not None
                    pauses.append(heard.samples)
                    if len(pauses) == 2:
                        self.hint(pauses[which], 0.0)

    async def script() -> list[Heard]:
        listener = Reading(Detector(LevelVad(), InlineExecutor()), EndpointConfig(hint=True, patient_ms=1600), count(1))
        samples = sound(20 * WINDOW, 7 * WINDOW, 8 * WINDOW, 5 * WINDOW, 60 * WINDOW)
        frames = [samples[at : at + WINDOW] for at in range(0, len(samples), WINDOW)]
        return await listen(frames, listener, pause=0.032)

    ended = run(script())[-1]
    assert isinstance(ended.event, SpeechEnded)
    assert ended.now - ended.end == silence * WINDOW


@pytest.mark.parametrize("after", [(10, 8), (30,)], ids=["goes on", "ends"])
def test_what_was_heard_on_a_pause_is_not_kept_beyond_it(after: tuple[int, ...]) -> None:
    """Nor where the speaker goes on: what is said may not be for us."""

    async def script() -> MicrophoneListener:
        listener = MicrophoneListener(Detector(LevelVad(), InlineExecutor()), EndpointConfig(hint=True), count(1))
        heard = await listen([sound(*(windows * WINDOW for windows in (20, 12, *after)))], listener)
        assert [one.event for one in heard if isinstance(one.event, SpeechPaused)]
        return listener

    assert run(script())._paused is None


def test_nobody_waits_behind_more_than_a_few_questions() -> None:
    class Never(InlineExecutor):
        def submit(self, *_: object, **__: object) -> asyncio.Future:  # type: ignore[override, type-arg]
            return self.future

    async def script() -> None:
        import concurrent.futures

        executor = Never()
        executor.future = concurrent.futures.Future()  # type: ignore[attr-defined]
        judge = EndOfTurn(ScriptedTurn(1.0), executor)
        silence = np.zeros(WINDOW, np.float32)
        asked = [judge.ask(silence) for _ in range(WAITING_LIMIT + 3)]
        assert [one is None for one in asked] == [False] * WAITING_LIMIT + [True] * 3
        executor.future.set_result(0.5)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert judge.ask(silence) is not None

    run(script())


real = [
    pytest.mark.real,
    pytest.mark.skipif(find_spec("pipecat") is None, reason="pipecat-ai is not installed: make install"),
]


@pytest.fixture(scope="module")
def smart_turn() -> SmartTurn:
    return SmartTurn()


class TestReal:
    """With the model from the package."""

    pytestmark = real

    @pytest.mark.parametrize("text", ["What is the capital of France?", "Tell me a joke.", "How do I boil an egg?"])
    def test_a_question_sounds_finished(self, smart_turn: SmartTurn, text: str) -> None:
        assert smart_turn.completeness(sounds.speech(text)[:-4800]) >= 0.9

    def test_a_sentence_that_breaks_off_does_not(self, smart_turn: SmartTurn) -> None:
        samples = sounds.clip("sense-0870")
        early = smart_turn.completeness(np.pad(samples[: len(samples) * 6 // 10], (0, 3200)))
        assert early <= 0.2
        assert smart_turn.completeness(np.pad(samples, (0, 1600))) >= 0.8

    @pytest.mark.parametrize(("hint", "utterances"), [(True, 1), (False, 2)])
    def test_a_question_with_a_pause_in_it_is_one_utterance(
        self, smart_turn: SmartTurn, hint: bool, utterances: int
    ) -> None:
        """Through the CPU default's instance and session; Smart-Turn alone takes the first part for finished."""

        class Ears(MicrophoneListener):
            def __init__(self, detector: Detector, _: EndpointConfig, numbers: Iterator[int]) -> None:
                config = EndpointConfig(hint=hint)
                super().__init__(detector, config, numbers, EndOfTurn(smart_turn, InlineExecutor()))

        async def script() -> int:
            ears = LocalAsr(Moonshine(), InlineExecutor())
            mind = [Cascade(name, ears, Judge(), Storyteller()) for name in "ab"]  # type: ignore[arg-type]
            async with conversation(instances=mind, vad=Silero(), ears=Ears) as talk:  # type: ignore[arg-type]
                await talk.hear(sounds.speech("Please remind me to,")[:-12_000])
                await talk.be_silent(0.7)
                await talk.hear(sounds.speech("call my mother tomorrow afternoon.")[9000:])
                await talk.be_silent(2.5)
                return len(talk.all(UserStopped))

        assert run(script()) == utterances


def test_the_features_are_those_of_whisper() -> None:
    """Loud below 1 kHz for a tone of 500 Hz, floor eight decades (two units) below the peak, silence first."""
    found = features(sounds.tone(500.0, seconds=2.0))
    assert found.shape == (80, 800)
    assert found.max() - found.min() == pytest.approx(2.0, abs=1e-5)
    assert found[:, :580].max() == pytest.approx(found.min(), abs=1e-5)
    assert int(found[:, 700].argmax()) == 13  # (500 Hz / 66.7) mels of 45.2 / 81 each


def test_eagerness_on_the_wire_bounds_the_silence() -> None:
    server = SessionSettings(EndpointConfig(), DuplexConfig(), VoiceNames(("hibari",)), "hibari")

    def wanted(settings: SessionSettings, detection: dict[str, object]) -> SessionSettings:
        fields = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
        return settings.updated(SessionUpdateFields.model_validate(fields), server, None)

    bounds = {}
    for eagerness in ("low", "medium", "high", "auto"):
        endpoint = wanted(server, {"type": "semantic_vad", "eagerness": eagerness}).endpoint
        assert endpoint.hint
        bounds[eagerness] = (endpoint.quick_ms, endpoint.patient_ms)
    assert bounds == {"low": (600, 4000), "medium": (420, 1800), "high": (320, 800), "auto": (420, 1800)}
    eager = wanted(server, {"type": "semantic_vad", "eagerness": "high"})
    assert not wanted(eager, {"type": "server_vad", "silence_duration_ms": 700}).endpoint.hint
