"""Audio of replies that a transport plays out itself, frame by frame. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlayoutFrame:
    """One frame of a turn's audio. `end`: bytes of the turn up to and with it."""

    turn: int
    data: bytes
    end: int


class Playout:
    """What waits to be played; on a hold nothing is given out, and nothing lost."""

    def __init__(self, frame: int) -> None:
        """`frame`: its bytes."""
        self._frame = frame
        self._turn = 0
        self._given = 0
        self._waiting = bytearray()
        self._held = False

    def add(self, turn: int, audio: bytes) -> None:
        if turn != self._turn:
            self.drop()
            self._turn, self._given = turn, 0
        self._waiting += audio

    def hold(self) -> None:
        self._held = True

    def resume(self) -> None:
        self._held = False

    def drop(self) -> None:
        """The turn was cut."""
        self._waiting.clear()
        self._held = False

    def take(self) -> PlayoutFrame | None:
        """The frame that is due now. None: silence. A last piece that is shorter is filled up: a voice that is late
        or has finished faded out before."""
        if self._held or not self._waiting:
            return None
        data = bytes(self._waiting[: self._frame])
        del self._waiting[: self._frame]
        self._given += len(data)
        return PlayoutFrame(self._turn, data.ljust(self._frame, b"\0"), self._given)
