"""A voice without a model: it hums as long as the text is. For tests and `configs/scripted.yaml`."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from vita_duplex.engine.audio import Samples

CHARS_PER_S = 15
"""About the pace of English speech."""
PITCHES_HZ = {"humming": 180, "humming-low": 120, "humming-high": 270}
"""Of each voice, the default first. A letter takes whole periods: each tone ends where its wave is 0."""
FADE_S = 0.02


class HummingVoice:
    """One piece of text becomes one tone of the length it would take to say, cut from a tone that all share."""

    def __init__(self, rate: int = 24_000, delay_s: float = 0.02, pitch_hz: int = PITCHES_HZ["humming"]) -> None:
        self.rate = rate
        self._pitch_hz = pitch_hz
        self._delay_s = delay_s
        self._tone = self._hum(10 * rate)

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        await asyncio.sleep(self._delay_s)
        length = len(text) * self.rate // CHARS_PER_S
        if length > len(self._tone):
            self._tone = self._hum(2 * length)
        yield self._tone[:length]

    def _hum(self, length: int) -> Samples:
        time = np.arange(length) / self.rate
        tone: Samples = (0.2 * np.minimum(1, time / FADE_S) * np.sin(2 * np.pi * self._pitch_hz * time)).astype(
            np.float32
        )
        tone.flags.writeable = False
        return tone
