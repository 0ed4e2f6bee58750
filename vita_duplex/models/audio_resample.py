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
    """A whole clip at 16 kHz; before and after it there is silence."""
    step_in, step_out = _ratio(rate)
    if step_in == step_out:
        return samples
    taps, reach = _filter(step_in, step_out)
    padded = np.pad(samples, (reach, reach + 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps.shape[1])
    converted = np.empty(resampled_length(len(samples), rate), np.float32)
    for start in range(0, len(converted), BLOCK):
        n = np.arange(start, min(start + BLOCK, len(converted)))
        converted[n] = np.einsum("nt,nt->n", windows[n * step_in // step_out], taps[n % step_out])
    return converted


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
