"""`vita-duplex bench --slo`: how many sessions a running server holds at a stated objective, and what breaks first."""

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr

from vita_duplex.client.connection import Address
from vita_duplex.client.crowd import LOUD, Seen, User
from vita_duplex.client.recording import OUTPUT_RATE, Pcm, Recording
from vita_duplex.client.svg import GRID, Svg
from vita_duplex.engine.audio import INPUT_RATE

LATE_S = 0.02
"""A generator that is later than a frame in one of a hundred cannot tell the server's delay from its own."""
FINENESS = 0.1
"""The search ends when good and bad are so close, as a share of the good one."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What a session is promised."""

    first_audio_s: float = 2.0
    """95 of 100 replies begin so soon."""
    stop_s: float = 0.2
    """95 of 100 interruptions silence the reply so soon."""
    gaps: float = 0.01
    """Share of replies that may have a gap."""


@dataclass(frozen=True, slots=True)
class Step:
    """What so many sessions were given."""

    sessions: int
    replies: int
    first_audio_s: float | None
    """The 95th percentile; None where nothing was heard."""
    stop_s: float | None
    """The 95th percentile; None where nobody interrupted."""
    gaps: float
    """Share of the replies."""
    unanswered: int
    refused: int
    late_s: float
    """The generator's own delay, the 99th percentile."""

    def broken(self, objective: Objective) -> list[str]:
        """What was not held."""
        found = []
        if self.refused:
            found.append(f"{self.refused} refused or cut")
        if self.first_audio_s is None or self.first_audio_s > objective.first_audio_s:
            found.append("first audio" if self.replies else "no reply")
        if self.stop_s is not None and self.stop_s > objective.stop_s:
            found.append("stop")
        if self.gaps > objective.gaps:
            found.append("gaps")
        return found


class Search:
    """Which number of sessions is tried next: doubled while it goes well, then halfway. Pure."""

    def __init__(self, first: int, most: int) -> None:
        self._next: int | None = min(first, most)
        self._most = most
        self.good = 0
        """The most that were held."""
        self._bad: int | None = None

    @property
    def next(self) -> int | None:
        """None when it is known."""
        return self._next

    def tried(self, sessions: int, *, held: bool) -> None:
        if held:
            self.good = max(self.good, sessions)
        else:
            self._bad = sessions if self._bad is None else min(self._bad, sessions)
        if self._bad is None:
            self._next = min(2 * sessions, self._most) if sessions < self._most else None
            return
        middle = (self.good + self._bad) // 2
        close = self._bad - self.good <= max(1, FINENESS * self.good)
        self._next = None if close or middle in (self.good, self._bad) else middle


def summed(sessions: int, seen: Seen) -> Step:
    return Step(
        sessions,
        seen.replies,
        _percentile(seen.first_audio, 95),
        _percentile(seen.stop, 95),
        seen.gaps / max(1, seen.replies),
        seen.unanswered,
        len(seen.refused),
        _percentile(seen.late, 99) or 0.0,
    )


def _percentile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 4) if values else None


def spoken(recording: Recording) -> Pcm:
    """At 24 kHz, from its first sound to its last."""
    loud = np.flatnonzero(np.abs(recording.samples) > LOUD)
    samples = recording.samples[loud[0] : loud[-1] + 1] if len(loud) else recording.samples
    return np.asarray(soxr.resample(samples, INPUT_RATE, OUTPUT_RATE), np.int16)


def crowd(address: Address, speech: list[Pcm], users: int, seconds: float, seed: int) -> Seen:
    """So many users of one process, for so long."""

    async def talk() -> Seen:
        seen = Seen()
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as tasks:
            for number in range(users):
                tasks.create_task(User(address, speech, seen, seed + number).talk(until))
        return seen

    return asyncio.run(talk())


def step(address: Address, speech: list[Pcm], sessions: int, seconds: float, processes: int) -> Step:
    """One number of sessions, spread over processes."""
    shares = [sessions // processes + (place < sessions % processes) for place in range(processes)]
    together = Seen()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        asked = [
            pool.submit(crowd, address, speech, share, seconds, 1000 * place)
            for place, share in enumerate(shares)
            if share
        ]
        for one in asked:
            together.add(one.result())
    return summed(sessions, together)


def search(measure: Callable[[int], Step], objective: Objective, first: int, most: int) -> tuple[int, list[Step]]:
    """The most sessions that held the objective, and every step."""
    ways, steps = Search(first, most), []
    while (sessions := ways.next) is not None:
        steps.append(measure(sessions))
        print(line(steps[-1], objective), flush=True)
        ways.tried(sessions, held=not steps[-1].broken(objective))
    return ways.good, steps


def line(one: Step, objective: Objective) -> str:
    def ms(seconds: float | None) -> str:
        return "     -" if seconds is None else f"{1000 * seconds:6.0f}"

    broke = ", ".join(one.broken(objective)) or "held"
    late = f"  THE GENERATOR WAS LATE: {1000 * one.late_s:.0f} ms" if one.late_s > LATE_S else ""
    return (
        f"{one.sessions:8} {one.replies:8} {ms(one.first_audio_s)} ms {ms(one.stop_s)} ms "
        f"{100 * one.gaps:5.1f} % {one.unanswered:10} {one.refused:7}   {broke}{late}"
    )


HEAD = "sessions  replies  first audio    stop  gaps   unanswered refused   (95th percentiles)"


def picture(steps: Sequence[Step], objective: Objective) -> Svg:
    """First audio and stop over the sessions, as shares of what was promised: 1 is the objective."""
    svg, left, bottom, wide, high = Svg(640, 340), 60, 290, 540, 250
    ordered = sorted(steps, key=lambda one: one.sessions)
    most = ordered[-1].sessions
    curves = {
        f"first audio, of {objective.first_audio_s:g} s": ("#1f6feb", objective.first_audio_s, "first_audio_s"),
        f"stop, of {objective.stop_s:g} s": ("#d1242f", objective.stop_s, "stop_s"),
    }
    top = 2.0
    for share in (0.5, 1.0, 1.5, 2.0):
        y = bottom - high * share / top
        svg.line(
            [(left, y), (left + wide, y)], "#000000" if share == 1 else GRID, dashes="4 3" if share == 1 else "none"
        )
        svg.text(left - 6, y + 4, f"{share:g}", anchor="end")
    for place, (name, (colour, limit, field)) in enumerate(curves.items()):
        told = [(one.sessions, getattr(one, field)) for one in ordered if getattr(one, field) is not None]
        points = [(left + wide * n / most, bottom - high * min(value / limit, top) / top) for n, value in told]
        svg.line(points, colour, 2)
        for x, y in points:
            svg.circle(x, y, 3, colour)
        svg.text(left + 10, 30 + 16 * place, name, colour)
    for one in ordered:
        svg.text(left + wide * one.sessions / most, bottom + 18, str(one.sessions), anchor="middle")
    svg.text(left + wide / 2, bottom + 38, "sessions", anchor="middle")
    return svg


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how many sessions a running server holds")
    group.add_argument("--slo", action="store_true", help="ramp up sessions until an objective breaks")
    group.add_argument("--url", default="ws://127.0.0.1:8000/v1/realtime", help="the server (default: %(default)s)")
    group.add_argument("--api-key", default=os.environ.get("VITA_API_KEY"), help="(default: $VITA_API_KEY)")
    group.add_argument("--more", type=Path, nargs="*", default=[], metavar="WAV", help="further recordings to say")
    group.add_argument("--first-audio", type=float, default=2.0, help="p95 in seconds (default: 2)")
    group.add_argument("--stop", type=float, default=0.2, help="p95 in seconds (default: 0.2)")
    group.add_argument("--gaps", type=float, default=0.01, help="share of replies (default: 0.01)")
    group.add_argument("--first", type=int, default=8, help="sessions to begin with (default: 8)")
    group.add_argument("--most", type=int, default=1024, help="sessions to end with (default: 1024)")
    group.add_argument("--seconds", type=float, default=30.0, help="of each step (default: 30)")
    group.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="of the generator")
    group.add_argument("--json", type=Path, help="write the steps as JSON")
    group.add_argument("--picture", type=Path, metavar="SVG", help="draw the steps")


def run(args: argparse.Namespace, recordings: Sequence[Recording]) -> int:
    """0 if any number of sessions was held, else 1."""
    objective = Objective(args.first_audio, args.stop, args.gaps)
    address, speech = Address(args.url, args.api_key), [spoken(one) for one in recordings]
    print(HEAD)
    good, steps = search(
        lambda sessions: step(address, speech, sessions, args.seconds, args.processes), objective, args.first, args.most
    )
    broke = next(
        (one.broken(objective) for one in sorted(steps, key=lambda one: one.sessions) if one.sessions > good), []
    )
    print(f"\n{good} sessions held it; what broke first: {', '.join(broke) or 'nothing'}")
    if any(one.late_s > LATE_S for one in steps):
        print("The generator itself was late: give it more --processes, or another machine.", file=sys.stderr)
    if args.json:
        found = {"held": good, "broke": broke, "objective": asdict(objective), "steps": [asdict(one) for one in steps]}
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.picture:
        picture(steps, objective).write(args.picture)
    return 0 if good else 1
