"""What the ears cost: windows per second of CPU, singly and together, and 64 microphones that never fall silent.

    python tools/bench_ears.py [--sessions 64] [--seconds 20]

First the detector alone; then whole ears (listener, detector, endpoint) in real time, each with its own stretch of
human speech in frames of 20 ms: with a run per window of each session, and gathered. CPU time of the process, so work
of others on the cores counts little; feeding the frames is in it, and the detector's part of it is told apart. Windows
are late from the frame that completes them to their probability.
"""

import argparse
import asyncio
import random
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from itertools import count

import numpy as np
import soundfile

from tests.support.paths import DATA
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.ports import Heard, Probabilities, Vad, VadState, Windows
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import WINDOW, EndpointConfig
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.silero import Silero

CLIPS = DATA
FRAME = INPUT_RATE // 50
GAIN_BAR, CORE_BAR = 3.0, 0.6


def speech() -> Samples:
    """All clips one after another."""
    return np.concatenate([soundfile.read(path, dtype="float32")[0] for path in sorted(CLIPS.glob("*.flac"))])


class Singly(Detector):
    """A run, and a trip to the worker, for the windows of each session."""

    def __init__(self, vad: Vad, executor: Executor) -> None:
        super().__init__(vad, executor)
        self._one, self._worker = vad, executor

    async def probabilities(self, windows: Windows, state: VadState) -> tuple[Probabilities, VadState]:
        def run() -> tuple[Probabilities, VadState]:
            found, states = np.empty(len(windows), np.float32), state[None]
            for place in range(len(windows)):
                found[place : place + 1], states = self._one.probabilities(windows[place : place + 1], states)
            return found, states[0]

        return await asyncio.get_running_loop().run_in_executor(self._worker, run)


class Timed:
    """A detector, and the CPU time it took on its thread."""

    def __init__(self, vad: Vad) -> None:
        self._vad, self.start = vad, vad.start
        self.spent = 0.0
        self.windows = 0

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        began = time.thread_time()
        answer = self._vad.probabilities(windows, states)
        self.spent += time.thread_time() - began
        self.windows += len(windows)
        return answer


def runs(vad: Vad, together: int, windows: int = 6400) -> float:
    """Seconds of CPU per window, the best of three."""
    states = np.stack([vad.start()] * together)
    sounds = np.resize(speech(), (40, together, WINDOW))
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        for place in range(windows // together):
            _, states = vad.probabilities(sounds[place % 40], states)
        best = min(best, (time.process_time() - began) / (windows // together * together))
    return best


class Microphone:
    """Sends its frames, and notes how late each window's probability was."""

    def __init__(self, number: int, detector: Detector, late: list[float]) -> None:
        self._phase = random.Random(number).random() * 0.02
        self._sounds = np.roll(speech(), -number * 7919)
        self._late = late
        self._came: list[float] = []
        self.heard = 0
        listen = detector.probabilities

        async def noted(windows: Windows, state: VadState) -> tuple[Probabilities, VadState]:
            answer = await listen(windows, state)
            self.heard += len(windows)
            now = asyncio.get_running_loop().time()
            late.append(now - self._came[(self.heard * WINDOW - 1) // FRAME])
            return answer

        shared = Detector.__new__(Detector)
        shared.start, shared.probabilities = detector.start, noted  # type: ignore[method-assign]
        self.listener = MicrophoneListener(shared, EndpointConfig(), count(1))

    async def talk(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        due, place = loop.time() + self._phase, 0
        while due < until:
            await asyncio.sleep(due - loop.time())
            self._came.append(loop.time())
            self.listener.hear(self._sounds[place : place + FRAME])
            due, place = due + 0.02, (place + FRAME) % (len(self._sounds) - FRAME)

    async def listen(self) -> None:
        heard: AsyncGenerator[Heard]
        async with aclosing(self.listener.run()) as heard:
            async for _ in heard:
                pass


async def ears(detector: Detector, sessions: int, seconds: float) -> tuple[float, int, list[float]]:
    """CPU seconds, windows heard and how late each of them."""
    late: list[float] = []
    microphones = [Microphone(number, detector, late) for number in range(sessions)]
    began = time.process_time()
    listening = [asyncio.create_task(microphone.listen()) for microphone in microphones]
    until = asyncio.get_running_loop().time() + seconds
    await asyncio.gather(*(microphone.talk(until) for microphone in microphones))
    spent = time.process_time() - began
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    return spent, sum(microphone.heard for microphone in microphones), late


async def frames_alone(sessions: int, seconds: float) -> float:
    """CPU seconds of the microphones' own timers, which real sockets take the place of."""

    async def talk(number: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + random.Random(number).random() * 0.02
        until = loop.time() + seconds
        while due < until:
            await asyncio.sleep(due - loop.time())
            due += 0.02

    began = time.process_time()
    await asyncio.gather(*(talk(number) for number in range(sessions)))
    return time.process_time() - began


def met(yes: bool) -> str:
    return "yes" if yes else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    vad, executor = Silero(), ThreadPoolExecutor(1)

    print("detector alone")
    alone = runs(vad, 1)
    for together in (1, 4, 16, 64):
        spent = runs(vad, together) if together > 1 else alone
        print(f"  {together:3} at once: {1e6 * spent:5.0f} µs a window, {1 / spent:6.0f} windows per core-second,"
              f" {alone / spent:.1f} times as many")  # fmt: skip

    timers = asyncio.run(frames_alone(args.sessions, args.seconds))
    print(f"ears of {args.sessions} sessions, {args.seconds:g} s of speech each (timers of the microphones taken off)")
    rates: list[float] = []
    for name, kind in (("a run per window", Singly), ("gathered", Detector)):
        timed = Timed(vad)
        spent, windows, late = asyncio.run(ears(kind(timed, executor), args.sessions, args.seconds))
        spent -= timers
        rates.append(timed.windows / timed.spent)
        p50, p99 = np.percentile(np.array(late) * 1000, [50, 99])
        print(f"  {name:16}: {100 * spent / args.seconds:5.1f} % of a core, {1e6 * spent / windows:4.0f} µs a window,"
              f" {1e6 / rates[-1]:4.0f} of them the detector's, late p50 {p50:.1f} ms p99 {p99:.1f} ms")  # fmt: skip
    share = spent / args.seconds
    print(f"gathered the detector hears {rates[1] / rates[0]:.1f} times as many windows per core-second"
          f"   bar {GAIN_BAR:g}: {met(rates[1] >= GAIN_BAR * rates[0])}")  # fmt: skip
    print(f"gathered {100 * share:.0f} % of a core in all   bar {100 * CORE_BAR:g} %: {met(share <= CORE_BAR)}")


if __name__ == "__main__":
    main()
