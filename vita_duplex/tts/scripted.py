"""A voice without a model: it hums as long as the text is. For tests and `configs/scripted.yaml`."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from vita_duplex.engine.seams import Samples

CHARS_PER_S = 15
"""About the pace of English speech."""
PITCH_HZ = 180


class HummingVoice:
    """One piece of text becomes one tone of the length it would take to say."""

    def __init__(self, rate: int = 24_000, delay_s: float = 0.02) -> None:
        self.rate = rate
        self._delay_s = delay_s

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        await asyncio.sleep(self._delay_s)
        time = np.arange(len(text) * self.rate // CHARS_PER_S) / self.rate
        fade = np.minimum(1, np.minimum(time, time[-1] - time) / 0.02)  # no click at either end
        yield (0.2 * fade * np.sin(2 * np.pi * PITCH_HZ * time)).astype(np.float32)
