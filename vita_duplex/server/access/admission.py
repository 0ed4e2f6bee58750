"""Who gets a session when there are more who want one: a fair queue with places and estimates. Pure."""

from collections import Counter
from dataclasses import dataclass

from vita_duplex.server.errors import Refusal

FIRST_GUESS_S = 120.0
"""How long a session lasts, until some have ended."""
NEWEST_WEIGHT = 0.2
"""Weight of the latest session in the mean length (exponential smoothing)."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in a session or in the queue, or the place of a short request; give it back with `leave`."""

    key: str | None
    number: int
    is_session: bool
    began: float | None = None
    """When its session began; None while it waits."""


class Admission:
    """At most `max_sessions` run, at most `max_waiting` wait; who is refused is told when to try again.

    While the server is `behind` with its work no session begins, unless there is none.

    The queue is fair between keys: the next place goes to the key with the fewest sessions, so a key with fifty
    clients does not keep one with a single client waiting. Among equals, first come, first served.
    """

    def __init__(self, max_sessions: int, max_waiting: int) -> None:
        self._max_sessions = max_sessions
        self._max_waiting = max_waiting
        self._running: Counter[str | None] = Counter()
        self._waiting: list[Ticket] = []
        self._tickets = 0
        self.behind = False
        self._mean_s = FIRST_GUESS_S

    @property
    def running(self) -> int:
        return self._running.total()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, key: str | None, now: float, *, may_wait: bool, is_session: bool = True) -> Ticket | Refusal:
        """A place, or why there is none. `may_wait`: the client understands being told its place in the queue.

        A request that is no session says nothing about how long sessions last.
        """
        self._tickets += 1
        ticket = Ticket(key, self._tickets, is_session)
        if self._has_room and not self._waiting:
            self._begin(ticket, now)
            return ticket
        if not may_wait or self.waiting >= self._max_waiting:
            full = "behind with its work" if self.behind else "full"
            message = f"The server is {full} ({self.running} conversations, {self.waiting} waiting); try again later."
            return Refusal("session_limit_reached", message, self._estimate_s(self.waiting + 1))
        self._waiting.append(ticket)
        return ticket

    def leave(self, ticket: Ticket, now: float) -> None:
        """A session ends or somebody gives up waiting; who is next gets the place."""
        if ticket.began is None:
            self._waiting.remove(ticket)
            return
        self._running[ticket.key] -= 1
        if ticket.is_session:
            self._mean_s += NEWEST_WEIGHT * (now - ticket.began - self._mean_s)
        self.advance(now)

    def advance(self, now: float) -> bool:
        """Who is next gets a place, if there is one and somebody waits."""
        begins = self._has_room and bool(self._waiting)
        if begins:
            first = self.queue()[0]
            self._waiting.remove(first)
            self._begin(first, now)
        return begins

    def queue(self) -> list[Ticket]:
        """Who waits, the next one first."""
        ahead = Counter(self._running)
        ranks: dict[Ticket, int] = {}
        for ticket in self._waiting:
            ranks[ticket] = ahead[ticket.key]
            ahead[ticket.key] += 1
        return sorted(self._waiting, key=lambda ticket: (ranks[ticket], ticket.number))

    def place(self, ticket: Ticket) -> tuple[int, float]:
        """The position of one who waits, from 1, and the estimated seconds until its session begins."""
        position = self.queue().index(ticket) + 1
        return position, self._estimate_s(position)

    @property
    def _has_room(self) -> bool:
        return self.running < self._max_sessions and not (self.behind and self.running)

    def _begin(self, ticket: Ticket, now: float) -> None:
        ticket.began = now
        self._running[ticket.key] += 1

    def _estimate_s(self, position: int) -> float:
        """Places come free once in mean length / number of sessions."""
        return round(position * self._mean_s / self._max_sessions, 1)
