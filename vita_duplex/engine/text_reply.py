"""One turn as text: what is generated goes out at once, without sound."""

import asyncio
from collections.abc import Callable

import numpy as np

from vita_duplex.engine.ports import Chunk


class TextReply:
    """`Speech` without a voice. Its text waits unbounded here: a reply is bounded by its maximum length."""

    def __init__(self) -> None:
        self.synthesised = 0
        self.underruns = 0
        self.first_clause: float | None = None
        self.first_synthesised: float | None = None
        self._deltas: asyncio.Queue[str | None] = asyncio.Queue()
        self._free = asyncio.Event()
        self._free.set()

    def write(self, delta: str) -> None:
        if delta:
            self._deltas.put_nowait(delta)

    def finish(self) -> None:
        self._deltas.put_nowait(None)

    async def play(self, send: Callable[[Chunk], None]) -> None:
        while (delta := await self._deltas.get()) is not None:
            await self._free.wait()
            send(Chunk(np.zeros(0, np.float32), 0, delta))
        await self._free.wait()

    def hold(self) -> None:
        self._free.clear()

    def resume(self) -> None:
        self._free.set()

    def heard(self) -> int:
        return 0
