"""Where the listener's audio lies in all the audio that a client has sent. Pure; counts samples at 16 kHz."""

from collections import deque

from vita_duplex.engine.audio import INPUT_RATE

GAP_LIMIT = 64
"""Gaps remembered, the latest: the speech that a position is asked of is at most one utterance old."""


class Positions:
    """The listener does not hear audio that is recorded, cleared or refused, and hears silence that nobody sent."""

    def __init__(self) -> None:
        self.received = 0
        """Samples that the client has sent."""
        self._heard = 0
        self._gaps = deque([(0, 0)], GAP_LIMIT)  # behind each of them the listener's count, and the client's

    def advance(self, *, received: int, heard: int) -> None:
        """The client has sent more samples; the listener got more, or `heard` is negative: it lost some."""
        self.received += received
        self._heard += heard
        if received != heard:
            while self._gaps and self._gaps[-1][0] >= self._heard:
                self._gaps.pop()
            self._gaps.append((self._heard, self.received))

    def find_ms(self, heard_ms: int) -> int:
        """The client's position for one of the listener's, in milliseconds."""
        position, end = heard_ms * INPUT_RATE // 1000, self.received
        for heard, received in reversed(self._gaps):
            if heard <= position:
                return min(received + position - heard, end) * 1000 // INPUT_RATE
            end = received
        return heard_ms
