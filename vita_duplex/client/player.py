"""The simulated loudspeaker: what is heard when."""

from dataclasses import dataclass

from vita_duplex.client.recording import OUTPUT_RATE


@dataclass(frozen=True, slots=True)
class Heard:
    """An unbroken stretch of a reply, in samples at 24 kHz."""

    response_id: str
    start: int
    """Sample of the session at which it came out of the loudspeaker."""
    first: int
    """Its first sample within the reply."""
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Held:
    """Silence in the middle of a reply because the server asked for it."""

    response_id: str
    start: int
    end: int


class Player:
    """Turn audio, holds and cuts into what is heard at which sample. Counts samples and keeps none."""

    def __init__(self) -> None:
        self.position = 0
        self.heard: list[Heard] = []
        self.held: list[Held] = []
        self._queue: list[tuple[str, int]] = []
        self._played: dict[str, int] = {}
        self._holding: dict[str, int] = {}

    @property
    def idle(self) -> bool:
        return not self._queue

    def played(self, response_id: str) -> int:
        """Samples of a reply that came out of the loudspeaker."""
        return self._played.get(response_id, 0)

    def receive(self, response_id: str, count: int, now: float) -> None:
        self.advance(now)
        if count:
            self._queue.append((response_id, count))

    def hold(self, response_id: str, now: float) -> None:
        self.advance(now)
        self._holding.setdefault(response_id, self.position)

    def resume(self, response_id: str, now: float) -> None:
        self.advance(now)
        if (start := self._holding.pop(response_id, None)) is not None:
            self.held.append(Held(response_id, start, self.position))

    def flush(self, response_id: str, now: float) -> None:
        """The reply was cancelled: nothing more of it is heard."""
        self.resume(response_id, now)
        self._queue = [(queued, count) for queued, count in self._queue if queued != response_id]

    def stop(self, now: float) -> list[str]:
        """The listener falls silent by itself; return the replies of which nothing more is heard."""
        self.advance(now)
        stopped = list(dict.fromkeys(response_id for response_id, _ in self._queue))
        for response_id in stopped:
            self.flush(response_id, now)
        return stopped

    def advance(self, now: float) -> None:
        """Play up to `now`; a time that has passed already changes nothing."""
        end = round(now * OUTPUT_RATE)
        while self.position < end:
            if not self._queue or self._queue[0][0] in self._holding:
                self.position = end
                return
            response_id, waiting = self._queue.pop(0)
            count = min(waiting, end - self.position)
            if waiting > count:
                self._queue.insert(0, (response_id, waiting - count))
            self._hear(response_id, count)

    def _hear(self, response_id: str, count: int) -> None:
        first = self._played.get(response_id, 0)
        start = self.position
        if self.heard and self.heard[-1].end == start and self.heard[-1].response_id == response_id:
            joined = self.heard.pop()
            self.heard.append(Heard(response_id, joined.start, joined.first, joined.count + count))
        else:
            self.heard.append(Heard(response_id, start, first, count))
        self._played[response_id] = first + count
        self.position += count
