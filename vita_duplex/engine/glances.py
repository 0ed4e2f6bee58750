"""Glances at speech while it goes on: when one may be asked, what it means for a reply, what the room is like. Pure."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

SURE = 0.15
"""A reply goes on before the end of the speech into it only when `p1` is below the threshold by more than this: each
change of mind is heard. The more was heard the less is missing, so the n-th glance at an utterance asks for an n-th."""
ENDING = 0.84
"""A reply ends before the end of the speech into it only when `p1` has come this share of the way from the threshold
to 1, at least: what has ended cannot be taken back."""
GAP_S = 0.15
"""Seconds between the beginnings of two glances of a session, at least."""
LIMIT_S = 2.0
"""Seconds after which a glance is given up: the speech has moved on."""
ROOM, ROOM_S = 3, 120.0
"""When so many utterances into replies were turned down within so many seconds, and none was accepted, the room talks:
the next one holds no reply by its sound alone."""

Meaning = Literal["not ours", "open", "ours", "surely ours"]


@dataclass(frozen=True, slots=True)
class GlanceUnderWay:
    """One that was asked and is not over."""

    number: int
    utterance: int
    turn: int
    """The reply that it is about."""
    deadline: float


class Glances:
    """Of one session: at most one at a time, and `1 / GAP_S` a second."""

    def __init__(self) -> None:
        self.under_way: GlanceUnderWay | None = None
        self._asked = 0
        self._earliest = 0.0  # of the next one
        self._utterance = 0  # the latest that was looked at …
        self._weighed = 0  # … and how many glances told something about it
        self._turned_down: deque[tuple[int, float]] = deque(maxlen=ROOM)  # utterances, and when

    def ask(self, utterance: int, turn: int, now: float) -> int | None:
        """The number of a new glance; None: not now."""
        if self.under_way or now < self._earliest:
            return None
        self._asked, self._earliest = self._asked + 1, now + GAP_S
        self.under_way = GlanceUnderWay(self._asked, utterance, turn, now + LIMIT_S)
        return self._asked

    def end(self, number: int) -> GlanceUnderWay | None:
        """The glance of that number is over; None if nobody waits for it."""
        glance = self.under_way
        if glance is None or glance.number != number:
            return None
        self.under_way = None
        return glance

    def told(self, utterance: int) -> bool:
        """Whether any glance has told something of this utterance."""
        return self._utterance == utterance and self._weighed > 0

    def weigh(self, utterance: int, p1: float, threshold: float) -> Meaning:
        """What a verdict on speech that may go on means."""
        self._weighed = self._weighed + 1 if self._utterance == utterance else 1
        self._utterance = utterance
        if p1 < threshold - SURE / self._weighed:
            return "not ours"
        if p1 < threshold:
            return "open"
        return "surely ours" if p1 >= threshold + ENDING * (1 - threshold) else "ours"

    # ── the room ───────────────────────────────────────────────────────────────────────

    def turn_down(self, utterance: int, now: float) -> None:
        """Speech into a reply was not meant for it."""
        if utterance not in [number for number, _ in self._turned_down]:
            self._turned_down.append((utterance, now))

    def forget_room(self) -> None:
        """Somebody speaks to us."""
        self._turned_down.clear()

    def room_talks(self, now: float) -> bool:
        return len(self._turned_down) == ROOM and now - self._turned_down[0][1] <= ROOM_S
