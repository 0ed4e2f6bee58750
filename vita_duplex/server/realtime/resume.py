"""What a client missed of its session while its connection was broken. Pure."""

from collections import deque
from dataclasses import dataclass

from vita_duplex.server.audio.formats import AudioFormat
from vita_duplex.server.realtime.event_writer import AUDIO_HEADER, Frame, number_of

RESUME_S = 30
"""How long a session waits for its client."""
MISSED_LIMIT = 1500
"""Events kept for a client that says nothing of its playback: a minute of speech, 4 MB. When it is full the oldest go;
who has not got them cannot come back. Acknowledged ones go at once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An event that may not have arrived; of audio, up to which moment of which item it reaches."""

    number: int
    frame: Frame
    item_id: str | None = None
    end_ms: float = 0.0


class Missed:
    """The events that were sent and may not have arrived, in the order of their numbers."""

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque()
        self._lost = 0  # the newest event that went because there was no room
        self._arrived = 0  # the newest one known to have arrived
        self._item: str | None = None
        self._ms = 0.0

    def note(self, frame: Frame, wire: AudioFormat) -> None:
        """Keep an event. `wire` is the format of audio sent now."""
        item_id, size = _audio(frame)
        if item_id is not None:
            if item_id != self._item:
                self._item, self._ms = item_id, 0.0
            self._ms += 1000 * size / (wire.width * wire.rate)
        self._kept.append(Kept(number_of(frame), frame, item_id, self._ms))
        if len(self._kept) > MISSED_LIMIT:
            self._lost = self._kept.popleft().number

    def forget(self, item_id: str, played_ms: int) -> None:
        """So much of an item was played: what was sent up to there has arrived."""
        arrived = 0
        for kept in self._kept:
            if kept.item_id == item_id:
                if kept.end_ms > played_ms:
                    break
                arrived = kept.number
        while self._kept and self._kept[0].number <= arrived:
            self._arrived = self._kept.popleft().number

    def since(self, last: int) -> list[Frame] | None:
        """What comes after an event; None if some of it is not kept any more."""
        if max(last, self._arrived) < self._lost:
            return None
        return [kept.frame for kept in self._kept if kept.number > last]


def _audio(frame: Frame) -> tuple[str | None, int]:
    """The item that audio belongs to, and the number of its bytes."""
    if isinstance(frame, bytes):
        return f"item_reply_{AUDIO_HEADER.unpack_from(frame)[0]}", len(frame) - AUDIO_HEADER.size
    if frame["type"] != "response.output_audio.delta":
        return None, 0
    delta: str = frame["delta"]
    return str(frame["item_id"]), len(delta) * 3 // 4 - delta[-2:].count("=")
