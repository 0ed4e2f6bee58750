"""The sessions that wait for a local voice, when more want to speak than it serves at once."""

import asyncio
import heapq
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count


class VoiceQueue:
    """`limit` sessions synthesise at a time; the next is the one whose audio is due first.

    A first piece comes before the next sentence of a session that has seconds of audio ahead. No session waits for
    ever: an earlier due time comes before all later ones. The queue is as long as there are sessions.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._numbers = count()  # first come, first served among equals
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def admit(self, due: float) -> AsyncGenerator[None]:
        """Wait until the voice is free; `due` is the loop time at which the audio will be missed."""
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
                self._give()  # the voice became free in the same moment
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, next_one = heapq.heappop(self._waiting)
            if not next_one.done():  # else its session has left
                next_one.set_result(None)
                return
        self._free += 1
