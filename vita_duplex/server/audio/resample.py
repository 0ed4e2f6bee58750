"""Streaming sample rate conversion at the edge of the server, by soxr."""

import numpy as np
import soxr

from vita_duplex.engine.audio import Samples


class Resampler:
    """Converts one mono stream; chunk borders leave no trace."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32") if rate_in != rate_out else None

    def push(self, samples: Samples) -> Samples:
        """What can be given out by now; the filter keeps some milliseconds back."""
        return samples if self._stream is None else self._convert(samples, last=False)

    def finish(self) -> Samples:
        """The rest. The stream ends here."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        return self._convert(np.zeros(0, np.float32), last=True)

    def _convert(self, samples: Samples, *, last: bool) -> Samples:
        assert self._stream is not None
        converted: Samples = self._stream.resample_chunk(samples, last=last)
        return converted
