"""An event loop whose clock jumps to the next timer: hours of conversation in milliseconds, the same every time."""

import asyncio
import selectors
from collections.abc import Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

Result = TypeVar("Result")


MOMENT_LIMIT = 100_000
"""Rounds of the loop without time passing: something turns in circles."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, moves the clock."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._patience_s = patience_s
        self._rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0) or (super().select(self._patience_s) if self._patience_s and timeout else [])
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits for something that will never happen")
            self._rounds = 0 if timeout > 0 else self._rounds + 1
            if self._rounds > MOMENT_LIMIT:
                raise RuntimeError("time stands still")
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing is left to do."""

    def __init__(self, patience_s: float = 0) -> None:
        """`patience_s`: how long the kernel may take to bring what was sent to a socket in this process."""
        self._jumping = _JumpingSelector(patience_s)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def keep_busy(self, seconds: float) -> None:
        """Let time pass without doing anything, as a long computation on the loop does."""
        self._jumping.now += seconds


class InlineExecutor(Executor):
    """Runs the work at once, in the caller's thread: threads know no virtual time."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def run(main: Coroutine[Any, Any, Result], *, patience_s: float = 0) -> Result:
    """Run to the end on virtual time; fail if a task is left behind. `patience_s` as in `VirtualLoop`."""

    results: list[Result] = []  # not the task's: `Runner` makes its repr on the way out, slow with audio in it

    async def watched() -> None:
        results.append(await main)
        await asyncio.sleep(0)
        left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == [], f"tasks left behind: {left}"

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience_s)) as runner:
        runner.run(watched())
    return results[0]
