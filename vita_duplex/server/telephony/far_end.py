"""What a far end that plays by itself was sent of a turn, and what of it was heard. Pure; times are in seconds.

The far end plays what it gets without a gap, sends each mark back when all before it was played, and can be told to
clear what it has not played. Cleared audio is sent again when the turn goes on.
"""

BYTES_PER_S = 8000
"""G.711."""


class FarEnd:
    """Counts the bytes of one turn after the other."""

    def __init__(self) -> None:
        self.turn = 0
        self._marks = 0  # of all turns: a mark that comes back late is not taken for one of another turn
        self._ends: dict[str, int] = {}  # of marks that are on their way: where in the turn they lie
        self._unheard = bytearray()
        self._start = 0  # where in the turn the first unheard byte lies
        self._since = 0.0  # when that one began to be played
        self._held = False

    @property
    def sent(self) -> int:
        return self._start + len(self._unheard)

    def add(self, turn: int, audio: bytes, now: float) -> str:
        """Note that audio goes out; return the name of the mark to be sent behind it."""
        if turn != self.turn:
            self.turn, self._start, self._held = turn, 0, False
            self._forget()
        if self.heard(now) == self.sent:  # it has run out, or begins
            self._advance(self.sent, now)
        self._unheard += audio
        return self._mark()

    def heard(self, now: float) -> int:
        """Bytes of the turn that were played by now, between two marks reckoned from the clock."""
        played = 0 if self._held else round((now - self._since) * BYTES_PER_S)
        return min(self.sent, self._start + played)

    def note_mark(self, name: str, now: float) -> float | None:
        """A mark came back: how many milliseconds of the turn were heard for certain. None: it is out of date."""
        end = self._ends.pop(name, None)
        if end is None:
            return None
        self._advance(end, now)
        return 1000 * end / BYTES_PER_S

    def hold(self, now: float) -> bool:
        """Whether there is something to be cleared."""
        self._advance(self.heard(now), now)
        self._held = True
        self._ends = {}  # all marks come back now, which proves nothing
        return bool(self._unheard)

    def resume(self, now: float) -> tuple[bytes, str] | None:
        """What was cleared, to be sent again, and the mark behind it."""
        if not self._held:
            return None
        self._held, self._since = False, now
        return (bytes(self._unheard), self._mark()) if self._unheard else None

    def cut(self, now: float) -> bool:
        """The turn is over. Whether there is something to be cleared."""
        left = not self._held and self.heard(now) < self.sent
        self._start = self.sent
        self._forget()
        return left

    def _mark(self) -> str:
        self._marks += 1
        name = str(self._marks)
        self._ends[name] = self.sent
        return name

    def _advance(self, heard: int, now: float) -> None:
        if heard >= self._start:
            del self._unheard[: heard - self._start]
            self._start, self._since = heard, now

    def _forget(self) -> None:
        self._ends, self._held = {}, False
        self._unheard.clear()
