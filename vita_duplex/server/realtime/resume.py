"""What a client missed of its session while its connection was broken. Pure."""

from collections import deque
from dataclasses import dataclass

from vita_duplex.server.errors import Refusal
from vita_duplex.server.realtime.event_writer import Frame

MISSED_LIMIT = 5_000_000
"""Bytes of events kept for a client that acknowledges nothing: a minute of speech at 24 kHz. When they are full the
oldest events go; a client that has not got them cannot come back."""

NOT_FOUND = Refusal("session_not_found", "There is no such session, or not any more; begin a new one.")
GAP = Refusal("resume_gap", "What came after that event is not kept any more; begin a new session.")


@dataclass(frozen=True, slots=True)
class Kept:
    """An event that may not have arrived; of audio, up to which moment of which item it reaches."""

    number: int
    data: str | bytes
    size: int
    item_id: str | None = None
    end_ms: float = 0.0


class Missed:
    """The events that were sent and may not have arrived, in the order of their numbers."""

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque()
        self._size = 0
        self._lost = 0  # the newest event that went because there was no room
        self._arrived = 0  # the newest one known to have arrived
        self._item: str | None = None
        self._ms = 0.0

    def note(self, frame: Frame, data: str | bytes, size: int) -> None:
        """Keep an event as it was sent, in so many bytes."""
        if frame.item_id is not None:
            if frame.item_id != self._item:
                self._item, self._ms = frame.item_id, 0.0
            self._ms += frame.audio_ms
        self._kept.append(Kept(frame.number, data, size, frame.item_id, self._ms))
        self._size += size
        while self._size > MISSED_LIMIT:
            self._lost = self._drop()

    def forget(self, item_id: str, played_ms: int) -> None:
        """So much of an item was played: what was sent up to there has arrived."""
        arrived = 0
        for kept in self._kept:
            if kept.item_id == item_id:
                if kept.end_ms > played_ms:
                    break
                arrived = kept.number
        while self._kept and self._kept[0].number <= arrived:
            self._arrived = self._drop()

    def _drop(self) -> int:
        oldest = self._kept.popleft()
        self._size -= oldest.size
        return oldest.number

    def since(self, last: int) -> list[str | bytes] | None:
        """What comes after an event; None if some of it is not kept any more."""
        if max(last, self._arrived) < self._lost:
            return None
        return [kept.data for kept in self._kept if kept.number > last]
