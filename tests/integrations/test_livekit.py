"""`integrations/livekit` with a real AgentSession: twenty sounds said into replies, with verdicts and without."""

import asyncio
import time
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

pytest.importorskip("livekit.agents", reason="make integrations installs it")
from livekit import rtc
from livekit.agents import Agent, AgentSession, inference, llm, stt, tts
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from vita_duplex_livekit import VerdictInterruptions

pytestmark = pytest.mark.real
SPEAKING_RATE = 24_000


class ScriptedStt(stt.STT):
    """Hears the same words whenever the session's VAD has found speech."""

    def __init__(self, words: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._words = words

    async def _recognize_impl(self, buffer: Any, *, language: Any = None, conn_options: Any) -> stt.SpeechEvent:
        said = stt.SpeechData(language="en", text=self._words, confidence=1.0)
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[said])


class ScriptedLlm(llm.LLM):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def chat(self, *, chat_ctx: Any, tools: Any = None, conn_options: Any = None, **_: Any) -> llm.LLMStream:
        self.asked += 1
        return _Answer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Answer(llm.LLMStream):
    async def _run(self) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(role="assistant", content="Yes.")))


class ScriptedTts(tts.TTS):
    """A tone as long as the text."""

    def __init__(self) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=SPEAKING_RATE, num_channels=1)

    def synthesize(self, text: str, *, conn_options: Any = None) -> tts.ChunkedStream:
        return _Tone(tts=self, input_text=text, conn_options=conn_options)


class _Tone(tts.ChunkedStream):
    async def _run(self, output_emitter: Any) -> None:
        output_emitter.initialize(
            request_id="1", sample_rate=SPEAKING_RATE, num_channels=1, mime_type="audio/pcm", stream=False
        )
        seconds = STORY_S * len(self.input_text) / len(STORY)
        output_emitter.push(np.full(round(seconds * SPEAKING_RATE), 1000, "<i2").tobytes())
        output_emitter.flush()


class Ears(AudioInput):
    def __init__(self, microphone: Microphone) -> None:
        super().__init__(label="microphone")
        self._microphone = microphone

    async def __anext__(self) -> rtc.AudioFrame:
        data = await self._microphone.frame()
        return rtc.AudioFrame(data, RATE, 1, len(data) // 2)


class Speaker(AudioOutput):
    """Plays in real time; can be paused, as a room's can."""

    def __init__(self, loudspeaker: Loudspeaker) -> None:
        pausing = AudioOutputCapabilities(pause=True)
        super().__init__(label="loudspeaker", capabilities=pausing, sample_rate=SPEAKING_RATE)
        self.interrupted = False
        self._loudspeaker = loudspeaker
        self._left = self._position = 0.0
        self._flushed = self._paused = False
        self._playing: asyncio.Task[None] | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._left += frame.duration
        self._flushed = False
        if self._playing is None:
            self._position = 0.0
            self._playing = asyncio.create_task(self._play())

    def flush(self) -> None:
        super().flush()
        self._flushed = True

    def clear_buffer(self) -> None:
        if self._playing:
            self._playing.cancel()
            self._finish(interrupted=True)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    async def _play(self) -> None:
        self.on_playback_started(created_at=time.time())
        while self._left > 0 or not self._flushed:
            await asyncio.sleep(0.02)
            if not self._paused and self._left > 0:
                self._loudspeaker.play()
                self._left -= 0.02
                self._position += 0.02
        self._finish(interrupted=False)

    def _finish(self, *, interrupted: bool) -> None:
        self._playing, self._left = None, 0.0
        self.interrupted = self.interrupted or interrupted
        self.on_playback_finished(playback_position=self._position, interrupted=interrupted)


async def run(trial: Trial, url: str | None) -> Result:
    """`url`: of the verdict service; without it the session is as LiveKit makes it."""
    clock = asyncio.get_running_loop().time
    microphone, loudspeaker, mind = Microphone(), Loudspeaker(), ScriptedLlm()
    session: AgentSession[Any] = AgentSession(
        stt=ScriptedStt(trial.words),
        llm=mind,
        tts=ScriptedTts(),
        vad=inference.VAD(),
        turn_handling={"turn_detection": "manual" if url else "vad"},
        aec_warmup_duration=None,  # it lets nobody interrupt the first three seconds
    )
    session.input.audio, session.output.audio = Ears(microphone), (speaker := Speaker(loudspeaker))
    await session.start(Agent(instructions="Be brief."), record=False)

    async def watch() -> Result:
        session.say(STORY)
        while not loudspeaker.heard:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
        await asyncio.sleep(INTO_S)
        began = clock() + onset(trial)
        microphone.say(trial.samples)
        while clock() < began + WATCH_S:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        ended = speaker.interrupted
        return Result(trial, ended, loudspeaker.pause_s(began, clock()), mind.asked > 0)

    try:
        if url is None:
            return await watch()
        async with VerdictInterruptions(session, url) as verdicts:
            while not verdicts._client.connected:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return await watch()
    finally:
        await session.aclose()


async def test_replies_wrongly_ended_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    before = await play(run, None)
    async with verdict_server() as url:
        after = await play(run, url)
    with capsys.disabled():
        print("\n" + "\n".join([row("LiveKit alone", before), row("LiveKit with verdicts", after)]))
        for one in after:
            print(one.trial.overlap.group, one.trial.overlap.event.what, one.ended, f"{one.pause_s:.2f}", one.answered)
    (recall_before, wrong_before), (recall, wrong) = figures(before), figures(after)
    assert recall.value >= recall_before.value - 0.13, "at most one of eight interruptions less"
    assert wrong.hits <= 2 < wrong_before.hits
    assert all(one.answered for one in after if one.ended and one.trial.overlap.event.is_query)
