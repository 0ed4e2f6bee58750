"""Whether the parts work, by their latest uses; local parts that nobody uses are probed now and then."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import numpy as np

from vita_duplex.engine.health import Standing
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.parts import Parts
from vita_duplex.vad.endpoint import WINDOW

LOOK_S = 1.0
"""How often it is seen whether a part wants a probe."""
LIMIT_S = 30.0
"""A part that has not answered a probe by then hangs. Generous: a busy voice is slow and works."""


class Readiness:
    """The state of a server's parts by name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def found(self, now: float) -> dict[str, bool]:
        """Whether each part works."""
        instances = {f"instance {name}": works for pool in self._pools for name, works in pool.works.items()}
        return {"vad": self._parts.detector.standing.works(now), "tts": self._parts.tts.works(now), **instances}

    def ready(self, now: float) -> bool:
        """Whether a conversation with every model is possible: one instance takes both roles."""
        found = self.found(now)
        return found["vad"] and found["tts"] and all(any(pool.works.values()) for pool in self._pools)

    @property
    def _pools(self) -> list[Pool]:
        return list(self._parts.pools.values())

    async def run(self) -> None:
        """Probe the parts that want it, one after the other, until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            if self._parts.detector.standing.wants_probe(now()):
                await _probe(self._parts.detector.standing, self._hear())
            if self._parts.tts.wants_probe(now()):
                await _probe(self._parts.tts, self._speak())
            await asyncio.sleep(LOOK_S)

    async def _hear(self) -> None:
        detector = self._parts.detector
        await detector.probabilities(np.zeros((1, WINDOW), np.float32), detector.start())

    async def _speak(self) -> None:
        async with aclosing(self._parts.voice.synthesise("Yes.")) as pieces:
            while isinstance(await anext(pieces), PartFailed):
                pass  # another voice speaks, if it can


async def _probe(standing: Standing, attempt: Coroutine[Any, Any, None]) -> None:
    now = asyncio.get_running_loop().time
    standing.probed(now())
    try:
        async with asyncio.timeout(LIMIT_S):
            await attempt
    except (PartFailed, TimeoutError, StopAsyncIteration, RuntimeError):  # the last: its executor is shut down
        standing.note(False, now())
    else:
        standing.note(True, now())
