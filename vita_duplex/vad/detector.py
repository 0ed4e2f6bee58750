"""One voice activity detector for all sessions: it runs off the event loop, for everybody who waits at once."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np

from vita_duplex.engine.health import Standing
from vita_duplex.engine.ports import PartFailed, Probabilities, Vad, VadState, Windows

log = logging.getLogger(__name__)

TICK_S = 0.005
"""Between the beginnings of two runs. Many sessions then share a run, which saves CPU time, and no window is late by
more than this; the windows of a single session are 32 ms apart and never wait."""


@dataclass(frozen=True, slots=True)
class _Job:
    windows: Windows
    state: VadState
    done: "asyncio.Future[tuple[Probabilities, VadState]]"


class Detector:
    """Gathers the windows of all sessions; what the detector remembers of each is kept by its listener.

    Used from one event loop. While `executor` is busy windows wait, the next run takes them all.
    """

    def __init__(self, vad: Vad, executor: Executor) -> None:
        self.standing = Standing()
        """Whether it works."""
        self._vad = vad
        self._executor = executor
        self._waiting: list[_Job] = []
        self._planned = False  # a run is under way or has its time
        self._earliest = 0.0  # loop time, of the next run

    def start(self) -> VadState:
        """The state before a session's first window."""
        return self._vad.start()

    async def probabilities(self, windows: Windows, state: VadState) -> tuple[Probabilities, VadState]:
        """Probabilities of one session's next windows, and the state after them.

        Errors: `PartFailed` to all whose windows were in a run that failed; those windows are lost.
        """
        loop = asyncio.get_running_loop()
        job = _Job(windows, state, loop.create_future())
        self._waiting.append(job)
        if not self._planned:
            self._plan(loop)
        return await job.done

    def close(self) -> None:
        """What waits is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned = True
        if loop.time() < self._earliest:
            loop.call_at(self._earliest, self._run, loop)
        else:
            self._run(loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs, self._waiting = [job for job in self._waiting if not job.done.done()], []
        self._earliest = loop.time() + TICK_S
        run: asyncio.Future[list[tuple[Probabilities, VadState]]]
        try:
            run = loop.run_in_executor(self._executor, _together, self._vad, jobs)
        except RuntimeError as error:  # it is shut down
            run = loop.create_future()
            run.set_exception(error)
        run.add_done_callback(partial(self._finish, loop, jobs))

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        jobs: Sequence[_Job],
        run: "asyncio.Future[list[tuple[Probabilities, VadState]]]",
    ) -> None:
        self._planned = False
        error = None if run.cancelled() else run.exception()
        if not run.cancelled():
            self._note(error, loop.time())
        for number, job in enumerate(jobs):
            if job.done.done():
                continue  # its session has ended
            if run.cancelled():
                job.done.cancel()
            elif error:
                job.done.set_exception(PartFailed("vad", f"speech is not detected ({type(error).__name__})"))
            else:
                job.done.set_result(run.result()[number])
        if self._waiting:
            self._plan(loop)

    def _note(self, error: BaseException | None, now: float) -> None:
        if error and self.standing.works(now):
            log.error("voice activity detection fails", exc_info=error)
        self.standing.note(error is None, now)


def _together(vad: Vad, jobs: Sequence[_Job]) -> list[tuple[Probabilities, VadState]]:
    """First everybody's first window, then the second of those who have one, and so on."""
    if not jobs:
        return []
    states = np.stack([job.state for job in jobs])
    found = [np.empty(len(job.windows), np.float32) for job in jobs]
    for place in range(max(map(len, found))):
        present = [number for number, job in enumerate(jobs) if place < len(job.windows)]
        windows = np.stack([jobs[number].windows[place] for number in present])
        probabilities, states[present] = vad.probabilities(windows, states[present])
        for number, probability in zip(present, probabilities, strict=True):
            found[number][place] = probability
    return list(zip(found, states, strict=True))
