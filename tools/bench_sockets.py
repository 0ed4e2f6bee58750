"""What talking sessions cost a server, over real sockets: its memory, its processor time, and how soon a reply is held.

    python tools/bench_sockets.py [--sessions 64] [--seconds 60] [--voice humming] [--vad silero]

The server runs in a process of its own, with scripted engines. Recorded speech is talked at random, also into the
answers, at the pace of speech. Memory is that of the server's process: at the start, every ten seconds, when all have
gone, after a full collection, and after `malloc_trim`.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import soundfile
import uvicorn
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from vita_duplex.cli.serve import listen
from vita_duplex.config import Config
from vita_duplex.server.http.app import create_app
from vita_duplex.server.realtime.websocket import FairWebSocket
from vita_duplex.server.server import Server

RATE = 24_000
FRAME = RATE // 50
CALM_S = 5.0
"""After the server has come up, and after all have gone."""
STORY = (
    "The museum opens at nine, and it is quiet then. Most people come in the afternoon. "
    "It was built in 1889 and holds 4,200 paintings. The garden behind it is open to everybody, and so is the library."
)
REPLIES = [{"p1": p1, "text": STORY, "token_s": 0.02} for p1 in (0.95, 0.05, 0.95, 0.05, 0.05)]
RECORDING = Path(__file__).parents[1] / "tests" / "data" / "jfk-ask.flac"


@dataclass
class Seen:
    """Of all talkers together."""

    replies: int = 0
    held_s: list[float] = field(default_factory=list)
    """From the first sound of somebody who talks into an answer to the news that it is held."""
    ended: list[str] = field(default_factory=list)
    """Why connections were closed before their time."""
    late_s: list[float] = field(default_factory=list)
    """How late the talkers' own frames were: what their process adds."""


@dataclass
class Usage:
    """Of the server's process."""

    start_mb: float = 0.0
    talking_mb: list[float] = field(default_factory=list)
    gone_mb: float = 0.0
    collected_mb: float = 0.0
    trimmed_mb: float = 0.0
    cpu_s: float = 0.0

    def per_session_mb(self, sessions: int) -> float:
        return (max(self.talking_mb) - self.start_mb) / sessions


def serve(port: Connection, config: Config) -> None:
    """The server's process; SIGUSR1 collects, SIGUSR2 gives free memory back."""
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    signal.signal(signal.SIGUSR2, lambda *_: ctypes.CDLL(None).malloc_trim(0))
    listening = listen("127.0.0.1", 0)
    server = Server(config)
    app = create_app(server)
    settings = uvicorn.Config(app, ws=FairWebSocket, ws_per_message_deflate=False, log_config=None, log_level="error")
    port.send(listening.getsockname()[1])
    uvicorn.Server(settings).run(sockets=[listening])


@contextmanager
def served(voice: str, vad: str, sessions: int) -> Iterator[tuple[int, psutil.Process]]:
    settings = {
        "engine": {"kind": "scripted", "instances": 2, "scripted": REPLIES},
        "vad": {"kind": vad},
        "tts": {"kind": voice},
        "server": {"max_sessions": sessions},
    }
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, Config.model_validate(settings)))
    process.start()
    assert process.pid is not None
    try:
        yield ours.recv(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join()


class Talker:
    """Talks at random; hears only what it measures."""

    def __init__(self, number: int, speech: list[bytes], seen: Seen) -> None:
        self._moods = random.Random(number)
        self._speech = speech
        self._seen = seen
        self._spoke: float | None = None  # since when it talks into an answer that was not held yet
        self._answering = False

    async def talk(self, port: int, until: float) -> None:
        await asyncio.sleep(self._moods.random() * 2)
        url = f"ws://127.0.0.1:{port}/v1/realtime?vita_events=true&pauses=true&queue=true&binary_audio=true"
        try:
            async with (
                connect(url, max_size=None, proxy=None, compression=None, ping_interval=None) as socket,
                asyncio.TaskGroup() as tasks,
            ):
                listening = tasks.create_task(self._listen(socket))
                await self._send(socket, until)
                listening.cancel()
        except* ConnectionClosed as closed:
            self._seen.ended += [str(one) for one in closed.exceptions]

    async def _send(self, socket: ClientConnection, until: float) -> None:
        clock = asyncio.get_running_loop().time
        due, silence = clock(), bytes(2 * FRAME)
        while due < until:
            loud, quiet = self._moods.randint(15, 60), self._moods.choice([15, 40, 75, 200])
            first = self._moods.randrange(len(self._speech) - loud)
            for n in range(loud + quiet):
                await asyncio.sleep(due - clock())
                self._seen.late_s.append(clock() - due)
                if n == 0 and self._answering:
                    self._spoke = clock()
                await socket.send(self._speech[first + n] if n < loud else silence)
                due += 0.02

    async def _listen(self, socket: ClientConnection) -> None:
        async for message in socket:
            if isinstance(message, bytes):
                continue
            kind = message[:60]
            if "response.created" in kind:
                self._answering = True
            elif "response.done" in kind:
                self._answering, self._spoke = False, None
                self._seen.replies += 1
            elif "vita.hold" in kind and self._spoke is not None:
                self._seen.held_s.append(asyncio.get_running_loop().time() - self._spoke)
                self._spoke = None


def frames() -> list[bytes]:
    """Recorded speech in frames of 20 ms."""
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    places = np.arange(int(len(samples) * RATE / rate)) * rate / RATE
    resampled: NDArray[np.int16] = (32767 * np.interp(places, np.arange(len(samples)), samples)).astype("<i2")
    loud = resampled[np.argmax(np.abs(resampled) > 3000) :]
    return [loud[n : n + FRAME].tobytes() for n in range(0, len(loud) - FRAME, FRAME)]


async def ready(port: int) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer[:20]:
                return
        except OSError:
            pass
        await asyncio.sleep(0.5)


async def measure(sessions: int, seconds: float, port: int, process: psutil.Process) -> tuple[Seen, Usage]:
    seen, usage, speech = Seen(), Usage(), frames()
    clock = asyncio.get_running_loop().time

    def mb() -> float:
        return float(process.memory_info().rss / 1e6)

    def cpu_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    async with asyncio.timeout(300):
        await ready(port)
    await asyncio.sleep(CALM_S)
    usage.start_mb, began = mb(), cpu_s()
    until = clock() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(sessions):
            tasks.create_task(Talker(number, speech, seen).talk(port, until))
        while clock() < until:
            await asyncio.sleep(min(10.0, max(0.1, until - clock())))
            usage.talking_mb.append(mb())
    usage.cpu_s = cpu_s() - began
    await asyncio.sleep(CALM_S)
    usage.gone_mb = mb()
    process.send_signal(signal.SIGUSR1)
    await asyncio.sleep(CALM_S)
    usage.collected_mb = mb()
    process.send_signal(signal.SIGUSR2)
    await asyncio.sleep(1)
    usage.trimmed_mb = mb()
    return seen, usage


def report(sessions: int, seconds: float, seen: Seen, usage: Usage) -> str:
    held = np.percentile(np.array(seen.held_s or [np.nan]) * 1000, [50, 95])
    late = np.percentile(np.array(seen.late_s) * 1000, [50, 99])
    frame_us = 1e6 * usage.cpu_s / sessions / seconds / 50
    return "\n".join(
        [
            f"{sessions} talkers for {seconds:g} s: {seen.replies} replies; {len(seen.ended)} were cut off "
            f"{dict(Counter(seen.ended)) or ''}",
            "memory in MB: "
            f"{usage.start_mb:.0f} at the start, {' '.join(f'{mb:.0f}' for mb in usage.talking_mb)} while they talked "
            f"({usage.per_session_mb(sessions):.2f} a session), {usage.gone_mb:.0f} when all had gone, "
            f"{usage.collected_mb:.0f} after a collection, {usage.trimmed_mb:.0f} trimmed",
            f"CPU {100 * usage.cpu_s / seconds:.0f} % of a core, {frame_us:.0f} µs per 20 ms for each session",
            f"first sound → held: p50 {held[0]:.0f} ms, p95 {held[1]:.0f} ms, n {len(seen.held_s)}; "
            f"the talkers' frames were late by p50 {late[0]:.1f} ms, p99 {late[1]:.1f} ms",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--voice", choices=["humming", "hibari"], default="humming")
    parser.add_argument("--vad", choices=["level", "silero"], default="silero")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with served(args.voice, args.vad, args.sessions) as (port, process):
        seen, usage = asyncio.run(measure(args.sessions, args.seconds, port, process))
    if args.json:
        print(json.dumps({"replies": seen.replies, "ended": seen.ended, **vars(usage)}))
    else:
        print(report(args.sessions, args.seconds, seen, usage))


if __name__ == "__main__":
    main()
