"""A task group that keeps nothing of the tasks that were cancelled."""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from traceback import clear_frames
from typing import Any, TypeVar

Result = TypeVar("Result")


class Tasks(asyncio.TaskGroup):
    """asyncio's task group, whose cancelled tasks are freed without the garbage collector.

    A cancelled task keeps its exception, that keeps the frames it came through, and a frame keeps the turn that has
    the task. Such a circle holds a turn with its audio until a full collection, which is rare.
    """

    def create_task(
        self,
        coro: Generator[Any, None, Result] | Coroutine[Any, Any, Result],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Result]:
        task = super().create_task(coro, name=name, context=context)
        task.add_done_callback(_let_go)
        return task


def _let_go(task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        try:
            task.result()
        except asyncio.CancelledError as cancelled:  # the task itself forgets it by raising it
            clear_frames(cancelled.__traceback__)
