"""Two processors for a pipecat pipeline that pauses on speech and asks a vita-duplex server for the verdict on it.

    verdicts = VerdictClient("ws://127.0.0.1:8000/v1/verdict")
    ears = VerdictEars(verdicts)
    gate = VerdictGate(verdicts, ears)
    aggregators = LLMContextAggregatorPair(context, user_params=LLMUserAggregatorParams(
        user_turn_strategies=ExternalUserTurnStrategies()))
    Pipeline([transport.input(), stt, ears, aggregators.user(), llm, tts, gate, transport.output(),
              aggregators.assistant()])

`VerdictEars` stands behind the STT: it sends the microphone to the server and keeps what was transcribed until the
verdict; what was not meant for the bot is dropped. `VerdictGate` stands before the output: it lets the bot's audio
through at the pace at which it is heard, so that it can stop and go on at any sample. While the server cannot be
reached each transcription is a turn.

Only what pipecat publishes is used: frames, processors, and its external turn strategies.
"""

import asyncio
from collections import deque

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from vita_duplex_verdict import Connected, Event, Hold, Resume, Speech, Stop, Verdict, VerdictClient

__all__ = ["VerdictClient", "VerdictEars", "VerdictGate"]

AHEAD_S = 0.2
"""Audio that is let through before it is heard; the gate cannot take it back."""
SLICE_S = 0.04


class VerdictEars(FrameProcessor):
    """The microphone of the server, and the turns that it decides."""

    def __init__(self, client: VerdictClient) -> None:
        super().__init__()
        self.gate: VerdictGate | None = None
        self._client = client
        self._listening: asyncio.Task[None] | None = None
        self._waiting: list[TranscriptionFrame] = []
        self._accepted: bool | None = None  # what was said last; None: it is not judged yet
        self._in_turn = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case StartFrame():
                self._listening = self.create_task(self._listen(), "verdicts")
            case EndFrame() | CancelFrame() if self._listening:
                await self.cancel_task(self._listening)
                self._listening = None
            case InputAudioRawFrame():
                self._hear(frame)
            case TranscriptionFrame() if not self._client.connected:
                self._waiting.append(frame)
                await self._begin_turn()
                await self._end_turn()
                return
            case TranscriptionFrame() if not self._accepted:
                if self._accepted is None:
                    self._waiting.append(frame)
                return
            case InterimTranscriptionFrame() if self._client.connected:
                return
            case _:
                pass
        await self.push_frame(frame, direction)

    def _hear(self, frame: InputAudioRawFrame) -> None:
        if frame.sample_rate != self._client.rate:
            raise ValueError(f"the microphone has {frame.sample_rate} Hz; make VerdictClient(rate=…) the same")
        width = 2 * frame.num_channels
        mono = (
            frame.audio
            if width == 2
            else b"".join(frame.audio[at : at + 2] for at in range(0, len(frame.audio), width))
        )
        self._client.hear(mono)

    async def _listen(self) -> None:
        events = self._client.events()
        try:
            async for event in events:
                if self.gate:
                    self.gate.note(event)
                await self._follow(event)
        finally:
            await events.aclose()

    async def _follow(self, event: Event) -> None:
        match event:
            case Speech(speaking=True) if self._accepted is not None:
                self._accepted = None
            case Stop():
                await self._begin_turn()
            case Verdict(accepted):
                self._accepted = accepted or self._in_turn
                if self._accepted:
                    await self._begin_turn()
                    await self._end_turn()
                self._waiting.clear()
            case Connected(yes=False):
                self._accepted = None
                await self._end_turn()
            case _:
                pass

    async def _begin_turn(self) -> None:
        """Interrupts the bot, if it speaks."""
        if not self._in_turn:
            self._in_turn = True
            await self.push_frame(ProposedUserStartedSpeakingFrame())

    async def _end_turn(self) -> None:
        for frame in self._waiting:
            await self.push_frame(frame)
        self._waiting.clear()
        if self._in_turn:
            self._in_turn = False
            await self.push_frame(ProposedUserStoppedSpeakingFrame())


class VerdictGate(FrameProcessor):
    """Lets the bot's audio through as it is heard, and keeps it back while the server says so."""

    def __init__(self, client: VerdictClient, ears: VerdictEars) -> None:
        super().__init__()
        ears.gate = self
        self.held = self.resumed = self.stopped = 0
        """How often the bot was held, went on, and lost the floor."""
        self._client = client
        self._queue: deque[Frame] = deque()
        self._arrived = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._playing: asyncio.Task[None] | None = None
        self._heard_until = 0.0  # loop time
        self._replying = False

    def note(self, event: Event) -> None:
        """What the server says."""
        match event:
            case Hold():
                self.held += 1
                self._open.clear()
            case Resume():
                self.resumed += 1
                self._open.set()
            case Stop():
                self.stopped += 1
            case _:
                pass

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case StartFrame():
                self._playing = self.create_task(self._play(), "gate")
            case EndFrame() | CancelFrame() if self._playing:
                await self.cancel_task(self._playing)
                self._playing = None
            case InterruptionFrame():
                self._forget()
            case TTSAudioRawFrame() | TTSStartedFrame() | TTSStoppedFrame() | TTSTextFrame():
                self._queue.append(frame)
                self._arrived.set()
                return
            case _:
                pass
        await self.push_frame(frame, direction)

    def _forget(self) -> None:
        """The reply is over."""
        self._queue.clear()
        self._heard_until = 0.0
        self._end_reply()

    def _end_reply(self) -> None:
        self._open.set()
        if self._replying:
            self._replying = False
            self._client.reply_ended()

    async def _play(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            while not self._queue:
                left = self._heard_until - clock()
                if self._replying and left <= 0:
                    self._end_reply()
                self._arrived.clear()
                try:
                    async with asyncio.timeout(left if self._replying else None):
                        await self._arrived.wait()
                except TimeoutError:
                    continue
            await self._open.wait()
            if self._heard_until - clock() > AHEAD_S:
                await asyncio.sleep(SLICE_S / 2)
                continue
            if self._queue and self._open.is_set():
                await self._let_through(self._queue.popleft())

    async def _let_through(self, frame: Frame) -> None:
        match frame:
            case TTSAudioRawFrame():
                if not self._replying:
                    self._replying = True
                    self._client.reply_started()
                first, rest = _cut(frame)
                if rest:
                    self._queue.appendleft(rest)
                now = asyncio.get_running_loop().time()
                seconds = len(first.audio) / 2 / first.num_channels / first.sample_rate
                self._heard_until = max(now, self._heard_until) + seconds
                await self.push_frame(first)
            case TTSTextFrame(text=text):
                self._client.reply_text(f"{text} ")
                await self.push_frame(frame)
            case _:
                await self.push_frame(frame)


def _cut(frame: TTSAudioRawFrame) -> tuple[TTSAudioRawFrame, TTSAudioRawFrame | None]:
    """A slice of its audio, and what is left."""
    size = round(SLICE_S * frame.sample_rate) * 2 * frame.num_channels
    if len(frame.audio) <= size:
        return frame, None

    def part(audio: bytes) -> TTSAudioRawFrame:
        return TTSAudioRawFrame(audio, frame.sample_rate, frame.num_channels, context_id=frame.context_id)

    return part(frame.audio[:size]), part(frame.audio[size:])
