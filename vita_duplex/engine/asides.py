"""Requests beside the conversation; their answers are text and enter no dialogue."""

import asyncio
from collections.abc import Callable
from typing import Literal

from vita_duplex.engine.messages import Call, Verdict
from vita_duplex.engine.notices import AsideCalled, AsideEnded, AsideStarted, AsideText, Notice, PartTrouble
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.requests import Request

ASIDE_LIMIT = 4
"""Requests beside the conversation at a time; further ones are refused."""

Status = Literal["completed", "cancelled", "failed", "incomplete"]
_CAUSES: dict[Status, Literal["client_cancelled", "instance_failed", "max_output_tokens"] | None] = {
    "completed": None,
    "cancelled": "client_cancelled",
    "failed": "instance_failed",
    "incomplete": "max_output_tokens",
}


class Asides:
    """The asides of one session that are under way."""

    def __init__(self, tasks: asyncio.TaskGroup, tell: Callable[[Notice], None]) -> None:
        self._group, self._tell = tasks, tell
        self._tasks: dict[int, asyncio.Task[PartFailed | None]] = {}

    @property
    def full(self) -> bool:
        return len(self._tasks) >= ASIDE_LIMIT

    def start(self, number: int, request: Request) -> None:
        async def judge(_: Verdict) -> None: ...

        def write(delta: str) -> None:
            self._tell(AsideText(number, delta))

        def tell(call: Call) -> None:
            self._tell(AsideCalled(number, call))

        self._tell(AsideStarted(number, bool(request.query.tools.offered)))
        self._tasks[number] = task = self._group.create_task(request.run(judge, write, tell), name=f"aside {number}")
        # A callback, for a task that is cancelled before it ran runs no `finally`.
        task.add_done_callback(lambda task: self._end(number, request, task))

    def cancel(self, number: int) -> bool:
        """False: there is none."""
        return number in self._tasks and self._tasks[number].cancel()

    def _end(self, number: int, request: Request, task: asyncio.Task[PartFailed | None]) -> None:
        del self._tasks[number]
        status: Status = "incomplete" if request.limited else "completed"
        if task.cancelled():
            status = "cancelled"
        elif task.exception():
            return  # a fault of ours, which ends the session
        elif failure := task.result():
            status = "failed"
            self._tell(PartTrouble(failure.part, failure.message))
        self._tell(AsideEnded(number, status, _CAUSES[status], request.usage))
