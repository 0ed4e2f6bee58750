"""Ramps that take the click out of a gap or a cut. Pure."""

import numpy as np

from vita_duplex.engine.audio import Samples

FADE_MS = 5


def fade_in(samples: Samples, rate: int) -> Samples:
    """The samples, rising from silence over the first 5 ms."""
    count = min(len(samples), rate * FADE_MS // 1000)
    ramp = np.ones(len(samples), np.float32)
    ramp[:count] = np.arange(count, dtype=np.float32) / max(1, count)
    return samples * ramp


def fade_out(samples: Samples, rate: int) -> Samples:
    """The samples, falling to silence over the last 5 ms."""
    return fade_in(samples[::-1], rate)[::-1]
