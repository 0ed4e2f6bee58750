"""Conversion of any sample rate to 16 kHz for the audio encoder: a windowed sinc, the filter that VITA was used with.

The filter is torchaudio's default (`functional.resample`): a sinc cut off at 0.99 of the lower Nyquist frequency,
six zero crossings to each side, under a Hann window. soxr's filter is the better one, yet its samples differ.
"""

from functools import lru_cache
from math import ceil, gcd

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE = 16_000
ZERO_CROSSINGS = 6
ROLLOFF = 0.99
BLOCK = 4096  # output samples computed at a time: their inputs stay in the cache


def resampled_length(samples: int, rate: int) -> int:
    """How many samples at 16 kHz come of a clip."""
    step_in, step_out = _ratio(rate)
    return -(-samples * step_out // step_in)


def resample(samples: Samples, rate: int) -> Samples:
    """A whole clip at 16 kHz."""
    stream = Resampler(rate)
    return np.concatenate([stream.push(samples), stream.finish()])


class Resampler:
    """Converts one growing clip; the pieces together are what the whole clip gives."""

    def __init__(self, rate: int) -> None:
        self._in, self._out = _ratio(rate)
        self._filter, self._reach = _filter(self._in, self._out)
        # Input that later outputs still need. Before the clip there is silence.
        self._held = np.zeros(self._reach, np.float32)
        self._held_from = -self._reach
        self._received = 0
        self._given = 0

    def push(self, samples: Samples) -> Samples:
        """What can be given out by now; the filter looks `_reach` samples ahead."""
        if self._in == self._out:
            return samples
        self._received += len(samples)
        self._held = np.concatenate([self._held, samples])
        # Output n needs the inputs up to n * in // out + reach.
        complete = (self._received - self._reach) * self._out // self._in
        return self._give(max(self._given, complete))

    def finish(self) -> Samples:
        """The rest. The clip ends here, silence follows."""
        if self._in == self._out:
            return np.zeros(0, np.float32)
        self._held = np.concatenate([self._held, np.zeros(self._reach, np.float32)])
        return self._give(-(-self._received * self._out // self._in))

    def _give(self, until: int) -> Samples:
        given = np.empty(until - self._given, np.float32)
        for start in range(self._given, until, BLOCK):
            n = np.arange(start, min(start + BLOCK, until))
            first = n * self._in // self._out - self._reach - self._held_from
            windows = np.lib.stride_tricks.sliding_window_view(self._held, self._filter.shape[1])
            part = np.einsum("nt,nt->n", windows[first], self._filter[n % self._out])
            given[start - self._given : start - self._given + len(n)] = part
        self._given = until
        needed_from = until * self._in // self._out - self._reach
        self._held = self._held[max(0, needed_from - self._held_from) :]
        self._held_from = max(self._held_from, needed_from)
        return given


def _ratio(rate: int) -> tuple[int, int]:
    """Input samples per output samples, in lowest terms."""
    divisor = gcd(rate, RATE)
    return rate // divisor, RATE // divisor


@lru_cache(maxsize=16)
def _filter(step_in: int, step_out: int) -> tuple[Samples, int]:
    """One row of taps for each of the `step_out` positions between input samples; how far they reach to each side.

    In single precision, and in this order, as torchaudio does it for a float32 waveform: at 44.1 kHz its rounding moves
    samples by 1e-6, which is no longer nothing after the logarithm of an empty bin.
    """
    single = np.float32
    cutoff = min(step_in, step_out) * ROLLOFF
    reach = ceil(ZERO_CROSSINGS * step_in / cutoff) + 1
    output = np.arange(step_out)[:, None]
    inputs = output * step_in // step_out + np.arange(-reach, reach + 1)
    t = (inputs.astype(single) / single(step_in) - output.astype(single) / single(step_out)) * single(cutoff)
    t = np.clip(t, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(t * single(np.pi) / single(ZERO_CROSSINGS) / single(2)) ** 2
    angle = t * single(np.pi)
    sinc = np.divide(np.sin(angle), angle, out=np.ones_like(angle), where=angle != 0)
    rows: Samples = sinc * (window * single(cutoff / step_in))
    return rows, reach
