"""Who may use a local voice next, when more sessions want to speak than it serves at once."""

import asyncio
import heapq
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count


class Seats:
    """`limit` sessions synthesise at a time; a free seat goes to the one whose sound is needed first.

    That is a first piece rather than the next sentence of somebody who has seconds of audio ahead, and nobody waits for
    ever: who was due earlier comes before all who come later. Waiting sessions are as many as there are sessions.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._numbers = count()  # first come, first served among equals
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def seat(self, due: float) -> AsyncGenerator[None]:
        """Wait for a seat and keep it; `due` is the loop time at which the sound will be missed."""
        await self._take(due)
        try:
            yield
        finally:
            self._give()

    async def _take(self, due: float) -> None:
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (due, next(self._numbers), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give()  # it was given in the same moment
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, next_one = heapq.heappop(self._waiting)
            if not next_one.done():  # else its session has left
                next_one.set_result(None)
                return
        self._free += 1
