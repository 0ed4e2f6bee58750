"""The ledger of a session's calls: which are open, and what an output that comes means. Pure; `now` is an argument.

| | open | completed | cancelled, stale |
|---|---|---|---|
| its output comes | completed, to be answered | refused: the first one counts | completed, late, not to be answered |
| its reply is cancelled by the client | cancelled | | |
| the user is answered about something else | stale | | |
| `OPEN_LIMIT_S` have passed | stale | | |
"""

from dataclasses import dataclass
from typing import Literal

from vita_duplex.engine.messages import Call

CALL_LIMIT = 64
"""Calls known at a time. The oldest is forgotten, open or not: an output for it is one for an unknown call."""
OPEN_LIMIT_S = 3600.0
"""A call may wait so long for its output: an hour, for somebody may have to approve it."""

State = Literal["open", "completed", "cancelled", "stale"]
Refused = Literal["unknown", "twice"]


@dataclass(slots=True)
class Known:
    """A call, and how it stands."""

    call: Call
    turn: int
    """0: the client brought it along."""
    made: float
    state: State = "open"
    waiting: bool = False
    """Its output has come, and no request has been told of it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """An output that was taken."""

    call: Call
    late: bool


class Calls:
    """Keeps a session's calls by their id, oldest first."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def make(self, call: Call, turn: int, now: float) -> bool:
        """Enter a call of a reply, or of a dialogue that the client brings (turn 0). False: its id is known."""
        if call.id in self._known:
            return False
        self._known[call.id] = Known(call, turn, now)
        if len(self._known) > CALL_LIMIT:
            del self._known[next(iter(self._known))]
        return True

    def take(self, call_id: str, now: float) -> Taken | Refused:
        """An output has come."""
        known = self._known.get(call_id)
        if known is None:
            return "unknown"
        if known.state == "completed":
            return "twice"
        late = self.state(call_id, now) != "open"
        known.state, known.waiting = "completed", not late
        return Taken(known.call, late)

    def state(self, call_id: str, now: float) -> State | None:
        """None: there is no such call."""
        known = self._known.get(call_id)
        if known and known.state == "open" and now >= known.made + OPEN_LIMIT_S:
            known.state = "stale"
        return known.state if known else None

    @property
    def waiting(self) -> frozenset[str]:
        """The calls whose outputs wait to be answered."""
        return frozenset(call_id for call_id, known in self._known.items() if known.waiting)

    def answered(self, call_ids: frozenset[str]) -> None:
        """A request that was told of these outputs is heard."""
        for call_id in call_ids & self._known.keys():
            self._known[call_id].waiting = False

    def move_on(self) -> None:
        """The user is answered about something else."""
        self._end_open("stale", None)

    def cancel(self, turn: int) -> None:
        """The client has cancelled the reply that made them."""
        self._end_open("cancelled", turn)

    def _end_open(self, state: State, turn: int | None) -> None:
        for known in self._known.values():
            if known.state == "open" and turn in (None, known.turn):
                known.state = state

    def forget(self, call_id: str) -> None:
        """The client has deleted it."""
        self._known.pop(call_id, None)
