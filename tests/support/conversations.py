"""A session with scripted parts on virtual time, and a user who talks to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

import numpy as np

from tests.support.virtual_time import InlineExecutor
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.notices import Notice, TurnAudio, TurnEnded
from vita_duplex.engine.pool import Pool, Seat
from vita_duplex.engine.ports import Synthesiser, Vad
from vita_duplex.engine.session import Session
from vita_duplex.server.observe.session_logs import SessionWriter
from vita_duplex.tts.speech import PacedSpeech, SpeechConfig
from vita_duplex.tts.voices.scripted import HummingVoice
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad

FRAME = INPUT_RATE // 50
SomeNotice = TypeVar("SomeNotice", bound=Notice)

QUERY = ScriptedReply(p1=0.95, transcript="a query", text="One two three four five. Six seven eight nine ten.")
FAST = DuplexConfig(verdict_deadline_ms=1500, first_limit_s=1.2, stall_limit_s=0.8)
"""Limits of a machine whose engines have cores or GPUs of their own."""
NOISE = ScriptedReply(p1=0.05, transcript="secret words", text="never said")


@dataclass
class Conversation:
    """What was told, with the time it was told at."""

    session: Session
    listener: MicrophoneListener
    numbers: Iterator[int]
    instances: tuple[ScriptedInstance, ...]
    pool: Pool
    seat: Seat
    told: list[tuple[float, Notice]] = field(default_factory=list)

    def tell(self, notice: Notice) -> None:
        self.told.append((asyncio.get_running_loop().time(), notice))

    async def hear(self, samples: Samples) -> None:
        """Push samples in 20 ms frames, in real (virtual) time."""
        for start in range(0, len(samples), FRAME):
            self.listener.hear(samples[start : start + FRAME])
            await asyncio.sleep(0.02)

    async def speak(self, seconds: float) -> None:
        time = np.arange(int(seconds * INPUT_RATE)) / INPUT_RATE
        await self.hear((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32))

    async def be_silent(self, seconds: float) -> None:
        await self.hear(np.zeros(int(seconds * INPUT_RATE), np.float32))

    async def silent_until(self, kind: type[Notice], number: int = 1, limit_s: float = 60) -> float:
        """Be silent until the `number`-th notice of a kind was told; return its time."""
        for _ in range(int(limit_s * 50)):
            times = [time for time, notice in self.told if isinstance(notice, kind)]
            if len(times) >= number:
                return times[number - 1]
            await self.hear(np.zeros(FRAME, np.float32))
        raise AssertionError(f"no {kind.__name__} within {limit_s} s; told: {[type(n).__name__ for _, n in self.told]}")

    def all(self, kind: type[SomeNotice]) -> list[SomeNotice]:
        return [notice for _, notice in self.told if isinstance(notice, kind)]

    def times(self, kind: type[Notice]) -> list[float]:
        return [time for time, notice in self.told if isinstance(notice, kind)]

    def audio(self, turn: int) -> Samples:
        parts = [notice.samples for notice in self.all(TurnAudio) if notice.turn == turn]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def text(self, turn: int) -> list[str]:
        return [notice.text for notice in self.all(TurnAudio) if notice.turn == turn and notice.text is not None]

    def endings(self) -> list[tuple[int, str, str | None]]:
        return [(notice.turn, notice.status, notice.cause) for notice in self.all(TurnEnded)]


@asynccontextmanager
async def conversation(
    *replies: ScriptedReply,
    config: DuplexConfig | None = None,
    voice: Synthesiser | None = None,
    instances: Sequence[ScriptedInstance] = (),
    client_pauses: bool = True,
    vad: Vad | None = None,
    ears: type[MicrophoneListener] = MicrophoneListener,
    log: SessionWriter | None = None,
    pool: Pool | None = None,
) -> AsyncIterator[Conversation]:
    """Reply n is the answer to utterance n. `pool`: one that is shared with other conversations."""
    scripted = tuple(instances) or (ScriptedInstance("a", replies), ScriptedInstance("b", replies))
    pool = pool or Pool(scripted)
    voice = voice or HummingVoice()
    numbers = count(1)
    listener = ears(Detector(vad or LevelVad(), InlineExecutor()), EndpointConfig(), numbers)

    class Teller:
        def tell(self, notice: Notice) -> None:
            if log:
                log.note(notice)
            talk.tell(notice)

    seat = pool.seat()
    session = Session(
        config or FAST,
        seat,
        listener,
        lambda _: PacedSpeech(voice, SpeechConfig(), client_pauses=client_pauses),
        Teller(),
        log.step if log else None,
    )
    talk = Conversation(session, listener, numbers, scripted, pool, seat)
    running = asyncio.create_task(session.run())
    try:
        yield talk
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        pool.leave(seat)
