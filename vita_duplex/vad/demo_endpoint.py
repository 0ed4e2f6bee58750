"""The endpointing of VITA 1.0's own demo, for comparison with it (`endpoint.compat: demo`). Pure; counts samples.

Begins and ends where the original's `VADIterator` did, which took chunks of 256 ms; recorded runs of it are in
`tests/golden/vad_events.json`. Two things differ on purpose: speech in the very first chunk is an utterance (the
original raised an error), and the chunk before an utterance is never one that an earlier utterance has already had.
"""

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.vad.endpoint import WINDOW, EndpointConfig, Kind, Mark

CHUNK = 8
"""Windows of 32 ms. The original's Silero v4 heard 4096 samples at once; ours hears 512, and the likeliest
of eight windows counts."""
THRESHOLD = 0.7
RELEASE = 0.55
SILENCE = 8000
"""Samples (500 ms) from the end of the first chunk below `RELEASE` to the end of the one that ends the utterance."""


class DemoEndpoint:
    """Chunks of 256 ms: one above `THRESHOLD` starts an utterance, with the chunk before it; only such a one resets
    the silence that ends it. Nothing starts early, and the first chunk holds a reply at once."""

    def __init__(self, config: EndpointConfig) -> None:
        self.sample = 0
        """Samples seen."""
        self.reach = 2 * CHUNK * WINDOW
        """How many samples back an utterance may begin that is not yet noticed."""
        self._chunk: list[float] = []
        self._earliest = 0
        self._start: int | None = None  # while somebody talks
        self._silent_from: int | None = None
        self.configure(config)

    def configure(self, config: EndpointConfig) -> None:
        """Go on with other settings."""
        self._max = int(config.max_utterance_s * INPUT_RATE)

    def push(self, probability: float, loudness: float = 0.0) -> list[Mark]:
        """Take in the next window's probability; the loudness does not count."""
        self.sample += WINDOW
        self._chunk.append(probability)
        if len(self._chunk) < CHUNK:
            return []
        probability, self._chunk = max(self._chunk), []
        if self._start is None:
            return self._begin() if probability > THRESHOLD else []
        if probability > THRESHOLD:
            self._silent_from = None
        elif probability < RELEASE:
            if self._silent_from is None:
                self._silent_from = self.sample
            if self.sample - self._silent_from >= SILENCE:
                return [self._end()]
        return [self._end()] if self.sample - self._start >= self._max else []

    def _begin(self) -> list[Mark]:
        self._start, self._silent_from = self.sample - CHUNK * WINDOW, None
        mark = self._mark("started")
        return [mark, Mark("sustained", mark.begin, mark.speech_start, mark.speech_end, mark.keep_until)]

    def _end(self) -> Mark:
        mark = self._mark("ended")
        self._start, self._earliest = None, self.sample
        return mark

    def _mark(self, kind: Kind) -> Mark:
        assert self._start is not None
        begin = max(self._earliest, self._start - CHUNK * WINDOW)
        quiet_from = self.sample if self._silent_from is None else self._silent_from - CHUNK * WINDOW
        return Mark(kind, begin, self._start, quiet_from, self.sample)
