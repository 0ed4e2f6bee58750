"""A voice without a model: it hums as long as the text is. For tests and `configs/scripted.yaml`."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from vita_duplex.engine.audio import Samples

CHARS_PER_S = 15
"""About the pace of English speech."""
PITCHES_HZ = {"humming": 180, "humming-low": 120, "humming-high": 270}
"""Of each voice, the default first."""


class HummingVoice:
    """One piece of text becomes one tone of the length it would take to say."""

    def __init__(self, rate: int = 24_000, delay_s: float = 0.02, pitch_hz: int = PITCHES_HZ["humming"]) -> None:
        self.rate = rate
        self._pitch_hz = pitch_hz
        self._delay_s = delay_s

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        await asyncio.sleep(self._delay_s)
        time = np.arange(len(text) * self.rate // CHARS_PER_S) / self.rate
        fade = np.minimum(1, np.minimum(time, time[-1] - time) / 0.02)  # no click at either end
        yield (0.2 * fade * np.sin(2 * np.pi * self._pitch_hz * time)).astype(np.float32)
