"""What the server itself costs: many sessions in one process, with engines and a voice that take no computing.

    python tools/bench_sessions.py [--sessions 64] [--seconds 60] [--vad silero] [--no-glances]

Runs in real time. Everybody talks at random, also into the answers. Measured at the seams: from the 20 ms frame that
completes a pause to the request at the engine, and from the first clause (or the floor, whichever comes later) to the
first audio event, encoded for the wire. No sockets; the processor time is that of this process.
"""

import argparse
import asyncio
import random
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from uvicorn.loops.auto import auto_loop_factory

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import SpeechGrew, SpeechPaused
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import Query, Verdict
from vita_duplex.engine.notices import Notice, TurnEnded, TurnRecorded
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import Heard
from vita_duplex.engine.session import Session
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.server import settle
from vita_duplex.tts.speech import PacedSpeech, SpeechConfig
from vita_duplex.tts.text.normaliser import Normaliser
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import Silero

FRAME = INPUT_RATE // 50
ADDED_BAR_MS = 20.0

STORY = (
    "The museum opens at nine, and it is quiet then. Most people come in the afternoon. "
    "It was built in 1889 and holds 4,200 paintings. The garden behind it is open to everybody, and so is the library."
)
"""A sentence in four has numbers, which take the voice's grammar 5 ms to read out."""

REPLIES = tuple(ScriptedReply(p1=p1, text=STORY, token_s=0.02) for p1 in (0.95, 0.05, 0.95, 0.05, 0.05))


@dataclass
class Seen:
    """Of all sessions, in seconds."""

    paused: dict[int, float] = field(default_factory=dict)
    """By the identity of what was said, when the frame came in that completed the pause behind it."""
    to_request: list[float] = field(default_factory=list)
    to_audio: list[float] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    glances: int = 0
    """That were asked for."""
    late: list[float] = field(default_factory=list)
    """How late the microphones' frames were: the event loop's own delay."""


class NotingListener(MicrophoneListener):
    """Notes when the frame came in that completed a pause."""

    def __init__(self, detector: Detector, seen: Seen, glances: bool) -> None:
        super().__init__(detector, EndpointConfig(), count(1))
        self._seen = seen
        self._glances = glances
        self._came: list[float] = []

    def hear(self, samples: Samples) -> bool:
        self._came.append(asyncio.get_running_loop().time())
        return super().hear(samples)

    async def run(self) -> AsyncGenerator[Heard]:
        async for heard in super().run():
            if isinstance(heard.event, SpeechPaused):
                self._seen.paused[id(heard.samples)] = self._came[(heard.now - 1) // FRAME]
            if self._glances or not isinstance(heard.event, SpeechGrew):
                yield heard


class NotingInstance(ScriptedInstance):
    """Notes when the request comes in that follows a pause."""

    def __init__(self, name: str, seen: Seen) -> None:
        super().__init__(name, REPLIES)
        self._seen = seen

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str]:
        self._seen.glances += query.unfinished
        paused = self._seen.paused.pop(id(query.utterances[-1].samples), None)
        if paused is not None:
            self._seen.to_request.append(asyncio.get_running_loop().time() - paused)
        async with aclosing(super().answer(query)) as items:
            async for item in items:
                yield item


class SilentVoice:
    """Costs nothing."""

    rate = 24_000

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        yield np.zeros(len(text) * self.rate // 15, np.float32)


class User:
    """One session and who talks to it."""

    def __init__(self, number: int, pool: Pool, listener: NotingListener, normaliser: Normaliser, seen: Seen) -> None:
        self.listener = listener
        self._seen = seen
        self._moods = random.Random(number)
        voice = SilentVoice()
        self._events = ServerEvents(f"sess_{number}", voice_rate=voice.rate, vita_events=True)
        self._now = asyncio.get_running_loop().time
        seat = pool.seat()
        config, speech = DuplexConfig(), SpeechConfig()
        self.session = Session(
            config, seat, listener, lambda _: PacedSpeech(voice, speech, client_pauses=True, normalise=normaliser), self
        )

    def tell(self, notice: Notice) -> None:
        for event in self._events.translate(notice):
            event.encode()
        match notice:
            case TurnEnded(_, status):
                self._seen.endings.append(status)
            case TurnRecorded(record):
                if record.floor is not None and record.first_clause is not None and record.first_audio_sent is not None:
                    self._seen.to_audio.append(record.first_audio_sent - max(record.floor, record.first_clause))

    async def talk(self, until: float) -> None:
        tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(FRAME) / INPUT_RATE).astype(np.float32)
        silence = np.zeros(FRAME, np.float32)
        due = self._now() + self._moods.random()
        while due < until:
            loud, quiet = self._moods.randint(10, 60), self._moods.choice([15, 40, 75, 200])
            for n in range(loud + quiet):
                await asyncio.sleep(due - self._now())
                self._seen.late.append(self._now() - due)
                self.listener.hear(tone if n < loud else silence)
                due += 0.02


async def measure(sessions: int, seconds: float, vad: str, glances: bool) -> Seen:
    seen = Seen()
    pool = Pool([NotingInstance(name, seen) for name in "ab"])
    executor = ThreadPoolExecutor(1)
    normaliser = Normaliser(ThreadPoolExecutor(1))
    await normaliser.warm()
    detector = Detector(LevelVad() if vad == "level" else Silero(), executor)
    users = [User(n, pool, NotingListener(detector, seen, glances), normaliser, seen) for n in range(sessions)]
    running = [asyncio.create_task(user.session.run()) for user in users]
    until = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(user.talk(until) for user in users))
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    executor.shutdown()
    normaliser.close()
    return seen


def row(name: str, values: list[float], bar: float | None = None) -> str:
    p50, p99 = np.percentile(np.array(values) * 1000, [50, 99])
    verdict = "" if bar is None else f"   bar {bar:g} ms: {'yes' if p99 <= bar else 'NO'}"
    return f"{name:<42} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   n {len(values)}{verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--vad", choices=["level", "silero"], default="level")
    parser.add_argument("--glances", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    settle()
    began = time.process_time()
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:  # uvloop where it is installed, as in the server
        seen = runner.run(measure(args.sessions, args.seconds, args.vad, args.glances))
    cpu = time.process_time() - began
    print(
        f"{args.sessions} sessions for {args.seconds:g} s, {args.vad} vad: {len(seen.endings)} replies, of which "
        f"{seen.endings.count('cancelled')} were interrupted; {seen.glances} glances"
    )
    print(row("pause complete → request at the engine", seen.to_request, ADDED_BAR_MS))
    print(row("first clause or floor → first audio event", seen.to_audio, ADDED_BAR_MS))
    print(row("event loop late by", seen.late))
    share = cpu / args.seconds
    print(
        f"CPU {100 * share:.0f} % of a core, {100 * share / args.sessions:.2f} % and "
        f"{1e6 * cpu / args.sessions / args.seconds / 50:.0f} µs per 20 ms for each session, its user included"
    )


if __name__ == "__main__":
    main()
