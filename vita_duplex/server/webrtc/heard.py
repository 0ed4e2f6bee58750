"""How much of a reply the far end has played, by the packets it was sent and what its receiver reports. Pure.

References: RFC 3550 section 6.4 (receiver reports: the highest sequence number that came).
"""

from collections import deque
from dataclasses import dataclass

BUFFER_S = 0.06
"""A browser keeps so much of what came before it plays it (Chromium's NetEq begins at 40 to 80 ms),
and its sound card."""
KEPT = 500
"""Packets: ten seconds, twice the longest time between two reports."""


@dataclass(frozen=True, slots=True)
class Sent:
    sequence: int
    turn: int
    ms: float
    """Of the turn, up to the end of the packet."""
    at: float


class HeardPackets:
    """Knows what was sent in the last seconds."""

    def __init__(self) -> None:
        self._sent: deque[Sent] = deque(maxlen=KEPT)

    def note(self, sent: Sent) -> None:
        self._sent.append(sent)

    def by_now(self, now: float, round_trip_s: float | None) -> Sent | None:
        """The last packet that must have been played, if the network has lost none."""
        return self._last(now - BUFFER_S - (round_trip_s or 0.0) / 2)

    def by_report(self, highest: int) -> Sent | None:
        """The last packet that was played when a report said that `highest` (its lower 16 bits) had come."""
        for sent in reversed(self._sent):
            if sent.sequence == highest & 0xFFFF:
                return self._last(sent.at - BUFFER_S)
        return None

    def _last(self, until: float) -> Sent | None:
        return next((sent for sent in reversed(self._sent) if sent.at <= until), None)
