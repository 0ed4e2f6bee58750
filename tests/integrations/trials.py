"""Twenty sounds said into the replies of another framework, with the verdict service and without, over real sockets.

The server judges as the CPU default does (Silero, Moonshine, the judge of words); it has no language model, for only
verdicts are asked of it. STT, LLM and TTS of the frameworks are scripted: the STT hears the words of the table.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tests.support import sounds
from tests.support.overlaps import Overlap, Storyteller, read, span
from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.asr.local import LocalAsr
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.pool import Pool
from vita_duplex.roc import Share
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.silero import Silero

PLAN = {"question": 5, "stop": 3, "backchannel": 4, "side talk": 4, "reading": 2, "sound": 2}
"""Of each group the first that were not at hand when the rules were made: twenty."""
STORY = "This is a story about a lighthouse that stood on a rock and about the people who lived in it for many years."
STORY_S = 12.0
INTO_S = 1.0
WATCH_S = 7.0
"""So long the reply is watched after the sound began."""
AT_ONCE = 5
RATE = 16_000
FRAME_S = 0.02


@dataclass(frozen=True, slots=True)
class Trial:
    """One sound."""

    overlap: Overlap
    samples: sounds.Samples

    @property
    def words(self) -> str:
        return self.overlap.event.what if self.overlap.event.kind == "speech" else ""


@dataclass(slots=True)
class Result:
    """What became of the reply."""

    trial: Trial
    ended: bool
    pause_s: float
    """Silence in it while it was watched."""
    answered: bool = False
    """The framework's LLM was asked about what was said."""


def trials() -> list[Trial]:
    chosen = []
    for group, count in PLAN.items():
        rows = [one for one in read() if one.group == group and not one.seen and one.event.kind != "clip"]
        chosen += [Trial(one, one.samples()) for one in rows[:count]]
    return chosen


class Microphone:
    """Frames at the pace of time: silence, and the sound from `say` on."""

    def __init__(self) -> None:
        self._left: sounds.Samples = np.zeros(0, np.float32)
        self._due: float | None = None

    def say(self, samples: sounds.Samples) -> None:
        self._left = samples

    async def frame(self) -> bytes:
        clock = asyncio.get_running_loop().time
        self._due = (clock() if self._due is None else self._due) + FRAME_S
        await asyncio.sleep(max(0.0, self._due - clock()))
        count = round(FRAME_S * RATE)
        frame, self._left = self._left[:count], self._left[count:]
        frame = np.pad(frame, (0, count - len(frame)))
        return np.rint(np.clip(frame, -1, 1) * 32767).astype("<i2").tobytes()


class Loudspeaker:
    """When something was heard, frame by frame."""

    def __init__(self) -> None:
        self.heard: list[float] = []

    def play(self) -> None:
        self.heard.append(asyncio.get_running_loop().time())

    def pause_s(self, after: float, until: float) -> float:
        """Silence between what was heard."""
        times = [after, *(at for at in self.heard if after < at < until)]
        return sum(two - one for one, two in pairwise(times) if two - one > 0.1)


@asynccontextmanager
async def verdict_server() -> AsyncIterator[str]:
    server = scripted_server(duplex={"verdict_deadline_ms": 6000, "first_limit_s": 10, "stall_limit_s": 10})
    assert server.parts is not None
    asr, judge = LocalAsr(Moonshine(), ThreadPoolExecutor(1)), Judge()
    pool = Pool([Cascade(name, asr, judge, Storyteller()) for name in "ab"])  # type: ignore[arg-type]
    detector = Detector(Silero(), ThreadPoolExecutor(1))
    server.parts = replace(server.parts, pools={server.config.model_name: pool}, detector=detector)
    async with serving(server) as port:
        yield f"ws://127.0.0.1:{port}/v1/verdict"


async def play(run: Callable[[Trial, str | None], Awaitable[Result]], url: str | None) -> list[Result]:
    """All of them, a few at a time."""
    waiting, results = iter(trials()), list[Result]()

    async def work() -> None:
        for trial in waiting:
            results.append(await run(trial, url))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return results


def figures(results: Sequence[Result]) -> tuple[Share, Share]:
    """Interruptions that ended the reply, and replies that were wrongly ended."""
    queries = [one for one in results if one.trial.overlap.event.is_query]
    others = [one for one in results if not one.trial.overlap.event.is_query]
    return (
        Share(sum(one.ended for one in queries), len(queries)),
        Share(sum(one.ended for one in others), len(others)),
    )


def row(name: str, results: Sequence[Result]) -> str:
    recall, wrong = figures(results)
    pauses = [one.pause_s for one in results if not one.ended and not one.trial.overlap.event.is_query]
    paused = f"{np.median(pauses):.2f}, {max(pauses):.2f}" if pauses else "–"
    return f"| {name} | {recall} | {wrong} | {paused} |"


def onset(trial: Trial) -> float:
    return span(trial.samples)[0]
