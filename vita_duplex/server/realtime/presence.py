"""Whether a session's client is there: LIVE, AWAY or OVER. What happens goes in, commands come out. Pure.

| | LIVE | AWAY | OVER |
|---|---|---|---|
| the connection breaks, or its client reads or beats too slowly | AWAY with a token, else OVER | | End |
| the client leaves | OVER: End | | End |
| the client comes back | LIVE: Close the old one | LIVE: GoOn | refused |
| nobody comes back in `RESUME_S` | | OVER: End | |
| a limit is reached, the drained session is quiet, too many errors | OVER: Tell, Close | OVER: End | |
| the last connection does not close in `FAREWELL_S` | | | End |

OVER is final, and End comes once. Times are in seconds.
"""

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from vita_duplex.server.access.limits import Lifetime, TokenBucket
from vita_duplex.server.errors import Refusal

RESUME_S = 30
"""A session waits so long for its client."""
HEARTBEAT_S = 15.0
"""A client that sends heartbeats is gone when nothing has come for so long: three of one in five seconds."""
FAREWELL_S = 10.0
"""The last events of a session have so long to go out."""
DRAIN_LOOK_S = 0.1
"""A drained session looks so often whether its turn is over; what was just asked is on its way meanwhile."""
UNREAD_LIMIT = 1_500_000
"""Bytes that may wait for a slow reader: 20 s of speech at 24 kHz. What was replayed does not count."""
ERRORS_PER_S, ERRORS_BURST = 1.0, 100.0
"""Errors that a client may make. A decent one makes a few in a session."""
ERROR_BYTES = 262_144
"""A wrong event counts as one error, and as one more for so many bytes."""

# WebSocket close codes, RFC 6455 section 7.4.1 and its IANA registry; from 4000 on they are an application's own.
NORMAL, POLICY_VIOLATION, SERVICE_RESTART = 1000, 1008, 1012
REPLACED, LOST = 4001, 4002
TOO_SLOW = "too slow: the client does not read what it is sent"
TOO_MANY_ERRORS = "too many errors: hardly anything that the client sends is understood"


class State(Enum):
    LIVE = "live"
    AWAY = "away"
    OVER = "over"


# ── events ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Broken:
    """A connection is gone."""

    connection: int


@dataclass(frozen=True, slots=True)
class Left:
    """The client has closed its connection for good."""

    connection: int


@dataclass(frozen=True, slots=True)
class Back:
    """Another connection continues the session."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat came: from now on they are expected."""


@dataclass(frozen=True, slots=True)
class Erred:
    """A wrong event of so many bytes came."""

    size: int


@dataclass(frozen=True, slots=True)
class Drain:
    """The server is stopping."""


Event = Broken | Left | Back | Beat | Erred | Drain


# ── commands ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Hold:
    """Nobody hears the reply: it waits."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """The client is back: the reply goes on."""


@dataclass(frozen=True, slots=True)
class Tell:
    """The last error of the session."""

    reason: Refusal


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; `flushed`: after all that waits for it."""

    code: int
    reason: str
    flushed: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The session is over and its last connection is done with."""


Command = Hold | GoOn | Tell | Close | End


class Presence:
    """Decides about one session's client."""

    def __init__(self, lifetime: Lifetime, now: float, *, resumable: bool) -> None:
        self.state = State.LIVE
        self.connection = 1
        """Number of the newest connection; what is told of an earlier one is stale."""
        self._lifetime = lifetime
        self._resumable = resumable
        self._errors = TokenBucket(ERRORS_PER_S, ERRORS_BURST, now)
        self._heard = now
        self._beats = self._slow = False
        self._look: float | None = None  # when a drained session looks again
        self._until: float | None = None  # the end of AWAY, or of OVER's farewell

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called; None after End."""
        if self.state is State.OVER:
            return self._until
        if self._slow:
            return 0.0
        beat = self._heard + HEARTBEAT_S if self._beats else None
        return min(time for time in (self._lifetime.deadline, self._until, beat, self._look) if time is not None)

    def heard(self, now: float) -> None:
        """A frame came. A later `now` than the present: none is read before that."""
        self._heard = now
        self._lifetime.heard(now)

    def unread(self, size: int) -> bool:
        """So many bytes wait for the reader. Whether `tick` is due for that."""
        self._slow = self.state is State.LIVE and size > UNREAD_LIMIT
        return self._slow

    def receive(self, event: Event, now: float) -> list[Command]:
        match event:
            case Back():
                return self._continue(now)
            case Drain():
                if self._look is None:
                    self._look = now + DRAIN_LOOK_S
                return []
            case Beat():
                self._beats = self.state is State.LIVE
                return []
            case Erred(size):
                return self._count_error(size, now)
            case Broken(connection) | Left(connection) if connection != self.connection or self.state is State.AWAY:
                return []  # stale: another one took its place, or it was closed as lost
            case Broken() if self.state is State.LIVE and self._resumable:
                return self._wait(now)
            case Broken() | Left():
                return self._end()
            case _:
                assert_never(event)

    def tick(self, now: float, *, busy: bool) -> list[Command]:
        """`busy`: a turn is under way, or the user speaks."""
        if self.state is State.OVER:
            return self._end() if self._until is not None and now >= self._until else []
        if reason := self._lifetime.over(now):
            return self._dismiss(now, NORMAL, reason.code, reason)
        if self._until is not None and now >= self._until:
            return self._end()
        if self._slow:
            return self._lose(now, LOST if self._resumable else POLICY_VIOLATION, TOO_SLOW)
        if self._beats and now >= self._heard + HEARTBEAT_S:
            return self._lose(now, LOST, "no heartbeat")
        if self._look is not None and now >= self._look:
            if not busy:
                return self._dismiss(now, SERVICE_RESTART, "server_draining")
            self._look = now + DRAIN_LOOK_S
        return []

    def _continue(self, now: float) -> list[Command]:
        before = self.state
        if before is State.OVER:
            return []
        self.state, self._until = State.LIVE, None
        self._beats = self._slow = False
        self.connection += 1
        self.heard(now)
        return [GoOn()] if before is State.AWAY else [Close(REPLACED, "the session goes on in another connection")]

    def _count_error(self, size: int, now: float) -> list[Command]:
        if self.state is State.OVER or self._errors.take(1 + size / ERROR_BYTES, now):
            return []
        return self._dismiss(now, POLICY_VIOLATION, TOO_MANY_ERRORS, Refusal("too_many_errors", TOO_MANY_ERRORS))

    def _wait(self, now: float) -> list[Command]:
        self.state, self._until = State.AWAY, now + RESUME_S
        self._beats = self._slow = False
        return [Hold()]

    def _lose(self, now: float, code: int, reason: str) -> list[Command]:
        """The connection is of no use any more."""
        if self._resumable:
            return [Close(code, reason), *self._wait(now)]
        self.state, self._until = State.OVER, now + FAREWELL_S
        return [Close(code, reason)]

    def _dismiss(self, now: float, code: int, reason: str, told: Refusal | None = None) -> list[Command]:
        if self.state is State.AWAY:
            return self._end()
        self.state, self._until = State.OVER, now + FAREWELL_S
        return [*([Tell(told)] if told else []), Close(code, reason, flushed=True)]

    def _end(self) -> list[Command]:
        ended = self.state is State.OVER and self._until is None
        self.state, self._until = State.OVER, None
        return [] if ended else [End()]
