"""A request, from the instance that is asked first to the end of its answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace

from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import Glanced, Slot
from vita_duplex.engine.messages import (
    Call,
    LeftOut,
    Query,
    Usage,
    Verdict,
)
from vita_duplex.engine.pool import Seat
from vita_duplex.engine.ports import Instance, PartFailed

log = logging.getLogger(__name__)

STALL_LIMIT_S = 30
"""An instance that yields nothing for this long hangs, even if there is no other to go on: the request fails instead of
waiting for ever."""


class Request:
    """One query and what came back of it.

    When an instance fails, or lets the request wait for too long, another one goes on from the text that is there by
    then: that is in the hands of the voice already, so nothing is said twice and nothing left out.
    """

    def __init__(self, query: Query, slot: Slot, seat: Seat, limits: DuplexConfig) -> None:
        self.query = query
        self.slot: Slot = slot
        self.verdict: Verdict | None = None
        self.text = ""
        """What the model has said."""
        self.calls: list[Call] = []
        self.first_delta: float | None = None
        """When the first piece of it came (loop time, seconds)."""
        self.usage: Usage | None = None
        self.left_out = 0
        """Messages of the history, the oldest, that the model was not shown."""
        self.limited = False
        """The answer ended because it was as long as the client allows."""
        self.instances = [seat.serving(slot)]
        """Who was asked, one after the other; the last one answers now."""
        self.moves: list[float] = []
        """When the request moved from each of them to the next (loop time, seconds)."""
        self._deltas = 0
        self._seat, self._limits = seat, limits
        self._tried: set[str] = set()  # in vain, though they are up
        self._now = asyncio.get_running_loop().time

    async def run(
        self, judge: Callable[[Verdict], Awaitable[None]], write: Callable[[str], None], call: Callable[[Call], None]
    ) -> PartFailed | None:
        """Take the request to its end; return why no instance could. `judge` takes the verdict, `write` each delta,
        `call` each call.

        An instance that fails after a call has said enough: another one would call again. Cancelled, the request
        closes the instance's stream, which aborts it in the engine.
        """
        while failure := await self._stream(judge, write, call):
            if self.calls:
                break
            instance = self.instances[-1]
            if instance.healthy:
                self._tried.add(instance.name)
            successor = self._seat.stand_in(self.slot, self._tried)
            if successor is None:
                return failure
            log.warning("%s; instance %s goes on in the place of %s", failure, successor.name, instance.name)
            self.instances.append(successor)
            self.moves.append(self._now())
            self.query = replace(self.query, answer_so_far=self.text if self.verdict else None)
        return None

    async def _stream(
        self, judge: Callable[[Verdict], Awaitable[None]], write: Callable[[str], None], call: Callable[[Call], None]
    ) -> PartFailed | None:
        """Take in what the present instance yields; return why it stopped if that is not the end of the answer."""
        instance = self.instances[-1]
        first, stall = self._limits.first_limit_s, self._limits.stall_limit_s
        try:
            async with (
                aclosing(instance.answer(self.query)) as stream,
                asyncio.timeout_at(self._patience(first)) as waiting,
            ):
                async for item in stream:
                    self._seat.progressed(instance)
                    match item:
                        case Verdict():
                            waiting.reschedule(self._patience(first))
                            self.verdict = item
                            await judge(item)
                            if self.query.max_tokens == 0:
                                break
                        case LeftOut(messages):
                            self.left_out = messages
                        case Usage():
                            self.usage, self.limited = item, item.cut
                        case Call():
                            self.calls.append(item)
                            call(item)
                        case "":  # it thinks
                            waiting.reschedule(self._patience(stall))
                        case _ if self._deltas == self.query.max_tokens:
                            self.limited = True
                            break
                        case _:
                            waiting.reschedule(self._patience(stall))
                            self._take(item)
                            write(item)
        except PartFailed as failure:
            self._seat.failed(instance, self._now())
            return failure
        except TimeoutError:
            self._seat.stalled(instance, self._now())
            return PartFailed(instance.name, "it hangs")
        return None

    def _patience(self, limit_s: float) -> float:
        """Until when the present instance may be silent: with nobody else to ask much longer than `limit_s`."""
        other = self._seat.stand_in(self.slot, {*self._tried, self.instances[-1].name})
        return self._now() + (limit_s if other else STALL_LIMIT_S)

    def _take(self, delta: str) -> None:
        if self.first_delta is None:
            self.first_delta = self._now()
        self._deltas += 1
        self.text += delta


class Told(Request):
    """A reply that the client gives by itself: its words come from there as they are heard; None ends it."""

    def __init__(self, words: asyncio.Queue[str | None], query: Query, slot: Slot, seat: Seat, limits: DuplexConfig):
        super().__init__(query, slot, seat, limits)
        self._words = words

    async def run(
        self, judge: Callable[[Verdict], Awaitable[None]], write: Callable[[str], None], call: Callable[[Call], None]
    ) -> PartFailed | None:
        """Nothing is asked of an instance."""
        while (words := await self._words.get()) is not None:
            self._take(words)
            write(words)
        return None


class WarmUp:
    """Computes a dialogue on an instance for a request that may come.

    A request never waits for its warm-up: what was computed so far stays in the engine's prefix cache, the rest the
    request computes itself.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: asyncio.Task[None] | None = None

    def begin(self, instance: Instance, query: Query) -> None:
        async def compute() -> None:
            with suppress(PartFailed):  # the request that follows will tell
                await instance.warm(query)

        self.stop()
        self._running = self._tasks.create_task(compute(), name="warm")

    def stop(self) -> None:
        if self._running:
            self._running.cancel()


class Glancing:
    """Asks for a verdict on speech that goes on, one at a time. The words that it is given from are not kept."""

    def __init__(self, tasks: asyncio.TaskGroup, seat: Seat, tell: Callable[[Glanced], Awaitable[None]]) -> None:
        self._tasks, self._seat, self._tell = tasks, seat, tell
        self._running: asyncio.Task[None] | None = None

    def begin(self, number: int, instance: Instance, query: Query) -> None:
        self.stop()
        self._running = self._tasks.create_task(self._ask(number, instance, query), name=f"glance {number}")

    def stop(self) -> None:
        if self._running:
            self._running.cancel()

    async def _ask(self, number: int, instance: Instance, query: Query) -> None:
        """An instance that has enough to do, or fails at this, is not asked again; the verdict will tell."""
        p1 = None
        with self._seat.glance(instance) as allowed, suppress(PartFailed):
            if allowed:
                async with aclosing(instance.answer(query)) as items:
                    verdict = await anext(items, None)
                    p1 = verdict.p1 if isinstance(verdict, Verdict) else None
        await self._tell(Glanced(number, p1))
