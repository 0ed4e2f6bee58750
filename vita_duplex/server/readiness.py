"""Whether the parts work: looked at by using them, when somebody asks and the last look is not fresh any more."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import numpy as np

from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.parts import Parts
from vita_duplex.vad.endpoint import WINDOW

FRESH_S = 10.0
LIMIT_S = 5.0
"""Answers that take longer are no help in a conversation; a busy voice takes a tenth of it."""


class Readiness:
    """The state of a server's parts by name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._looked: float | None = None
        self._found: dict[str, bool] = {}
        self._lock = asyncio.Lock()

    @property
    def found(self) -> dict[str, bool]:
        """Of the latest look; the instances' as it is now."""
        instances = {f"instance {one.name}": one.healthy for one in self._parts.instances}
        return {**self._found, **instances}

    @property
    def ready(self) -> bool:
        return all(self._found.values()) and self._parts.ready

    async def look(self) -> None:
        """Try ears and voice, unless that was done a moment ago."""
        clock = asyncio.get_running_loop().time
        async with self._lock:
            if self._looked is None or clock() - self._looked >= FRESH_S:
                self._found = {"vad": await _works(self._hear()), "tts": await _works(self._speak())}
                self._looked = clock()

    async def _hear(self) -> None:
        detector = self._parts.detector
        await detector.probabilities(np.zeros((1, WINDOW), np.float32), detector.start())

    async def _speak(self) -> None:
        async with aclosing(self._parts.voice.synthesise("Yes.")) as pieces:
            while isinstance(await anext(pieces), PartFailed):
                pass  # another voice speaks, if it can


async def _works(attempt: Coroutine[Any, Any, None]) -> bool:
    try:
        async with asyncio.timeout(LIMIT_S):
            await attempt
    except (PartFailed, TimeoutError, StopAsyncIteration, RuntimeError):  # the last: its executor is shut down
        return False
    return True
