"""`integrations/pipecat` with a real pipeline: replies into which twenty sounds are said, with verdicts and without."""

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.integrations.trials import (
    INTO_S,
    RATE,
    STORY,
    STORY_S,
    WATCH_S,
    Loudspeaker,
    Microphone,
    Result,
    Trial,
    figures,
    onset,
    play,
    row,
    verdict_server,
)

pytest.importorskip("pipecat", reason="make integrations installs it")
pytest.importorskip("vita_duplex_pipecat", reason="make integrations installs it")
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMContextFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from vita_duplex_pipecat import VerdictClient, VerdictEars, VerdictGate

pytestmark = pytest.mark.real
SPEAKING_RATE = 24_000


class Ears(BaseInputTransport):
    def __init__(self, microphone: Microphone, params: TransportParams) -> None:
        super().__init__(params)
        self._microphone = microphone
        self._reading: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._reading = self.create_task(self._read())

    async def _read(self) -> None:
        while True:
            await self.push_audio_frame(InputAudioRawFrame(await self._microphone.frame(), RATE, 1))

    async def stop(self, frame: EndFrame) -> None:
        await self._end()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        await self._end()
        await super().cancel(frame)

    async def _end(self) -> None:
        if self._reading:
            await self.cancel_task(self._reading)
            self._reading = None


class Speaker(BaseOutputTransport):
    """Plays in real time."""

    def __init__(self, loudspeaker: Loudspeaker, params: TransportParams) -> None:
        super().__init__(params)
        self._loudspeaker = loudspeaker
        self._due = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        clock = asyncio.get_running_loop().time
        if any(frame.audio):
            self._loudspeaker.play()
        self._due = max(clock(), self._due) + len(frame.audio) / 2 / frame.sample_rate
        await asyncio.sleep(max(0.0, self._due - clock()))
        return True


class ScriptedStt(FrameProcessor):
    """Hears the words some time after the sound, as its microphone's VAD would have it."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
        self.over: float | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        now = asyncio.get_running_loop().time()
        if isinstance(frame, InputAudioRawFrame) and self.over is not None and now >= self.over:
            self.over = None
            if self.words:
                await self.push_frame(TranscriptionFrame(self.words, "user", "now"))


class ScriptedVoice(FrameProcessor):
    """LLM and TTS: a context is answered, and said; what is to be said is a tone as long as its text."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.interrupted = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case LLMContextFrame():
                self.asked += 1
                await self._say("Yes.")
            case TTSSpeakFrame(text=text):
                await self._say(text)
            case InterruptionFrame():
                self.interrupted += 1
                await self.push_frame(frame, direction)
            case _:
                await self.push_frame(frame, direction)

    async def _say(self, text: str) -> None:
        seconds = STORY_S * len(text) / len(STORY)
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(TTSTextFrame(text, aggregated_by="sentence"))
        tone = np.full(round(seconds * SPEAKING_RATE), 1000, "<i2").tobytes()
        await self.push_frame(TTSAudioRawFrame(tone, SPEAKING_RATE, 1))
        await self.push_frame(TTSStoppedFrame())


async def run(trial: Trial, url: str | None) -> Result:
    """`url`: of the verdict service; without it the pipeline takes turns as pipecat does by itself."""
    clock = asyncio.get_running_loop().time
    microphone, loudspeaker = Microphone(), Loudspeaker()
    params = TransportParams(audio_in_enabled=True, audio_out_enabled=True, audio_out_sample_rate=SPEAKING_RATE)
    ears, speaker = Ears(microphone, params), Speaker(loudspeaker, params)
    hearing, voice = ScriptedStt(trial.words), ScriptedVoice()
    if url:
        client = VerdictClient(url)
        own = VerdictEars(client)
        gate = VerdictGate(client, own)
        user = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
        pair = LLMContextAggregatorPair(LLMContext(), user_params=user)
        parts: list[Any] = [ears, hearing, own, pair.user(), voice, gate, speaker, pair.assistant()]
    else:
        user = LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
        pair = LLMContextAggregatorPair(LLMContext(), user_params=user)
        parts = [ears, hearing, pair.user(), voice, speaker, pair.assistant()]
    task = PipelineTask(
        Pipeline(parts), params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=SPEAKING_RATE)
    )
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    try:
        while url and not client.connected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await task.queue_frame(TTSSpeakFrame(STORY))
        while not loudspeaker.heard:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
        await asyncio.sleep(INTO_S)
        began = clock() + onset(trial)
        microphone.say(trial.samples)
        hearing.over = clock() + len(trial.samples) / RATE + 0.3
        while clock() < began + WATCH_S:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        ended = voice.interrupted > 0
        return Result(trial, ended, loudspeaker.pause_s(began, clock()), voice.asked > 0)
    finally:
        await task.cancel()
        await running


async def test_replies_wrongly_ended_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    before = await play(run, None)
    async with verdict_server() as url:
        after = await play(run, url)
    with capsys.disabled():
        print("\n" + "\n".join([row("pipecat alone", before), row("pipecat with verdicts", after)]))
    (recall_before, wrong_before), (recall, wrong) = figures(before), figures(after)
    assert recall.value >= recall_before.value - 0.13, "at most one of eight interruptions less"
    assert wrong.hits <= 2 < wrong_before.hits
    assert all(one.answered for one in after if one.ended and one.trial.overlap.event.is_query)
