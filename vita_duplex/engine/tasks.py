"""A task group that keeps nothing of what has ended."""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from traceback import clear_frames
from types import TracebackType
from typing import Any, TypeVar

Result = TypeVar("Result")


class Tasks(asyncio.TaskGroup):
    """asyncio's task group, whose exceptions are freed without the garbage collector.

    A cancelled task keeps its exception, that keeps the frames it came through, and a frame keeps the turn that has
    the task; up to Python 3.13.1 the group's own frame keeps the exception too. Such a circle holds a turn with its
    audio until a full collection, which is rare.
    """

    def create_task(
        self,
        coro: Generator[Any, None, Result] | Coroutine[Any, Any, Result],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Result]:
        task = super().create_task(coro, name=name, context=context)
        task.add_done_callback(_let_go_of_task)
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except BaseException as left:
            _let_go(left)
            raise


def _let_go_of_task(task: asyncio.Task[Any]) -> None:
    try:
        _let_go(task.exception())
    except asyncio.CancelledError as cancelled:  # the task itself forgets it by raising it
        _let_go(cancelled)


def _let_go(error: BaseException | None) -> None:
    """Clear the frames of what asyncio raised on the way to this error; those of other errors may be shared."""
    while error is not None:
        if isinstance(error, asyncio.CancelledError | TimeoutError | BaseExceptionGroup):
            clear_frames(error.__traceback__)
        error = error.__context__
