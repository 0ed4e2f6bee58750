"""How late the event loop is with what is due: the server's own backlog, which no record of a turn shows. Pure."""

from collections import deque

TICK_S = 0.1
"""Between two measurements."""
NEWEST_WEIGHT = 0.04
"""Weight of the latest measurement in the mean (exponential smoothing): one hiccup is no backlog."""
BEHIND_S = 0.25
"""A mean lag from which no session begins: every reply stops that much later, and with each session later still."""
KEPT_S = 60.0
"""A turn's worst lag is known if it began no earlier."""


class Lag:
    """Takes measurements of lateness, in seconds, and when they were made."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._late: deque[tuple[float, float]] = deque(maxlen=round(KEPT_S / TICK_S))

    @property
    def behind(self) -> bool:
        return self.mean_s > BEHIND_S

    def note(self, late_s: float, now: float) -> None:
        self.mean_s += NEWEST_WEIGHT * (late_s - self.mean_s)
        self._late.append((now, late_s))

    def worst_s(self, since: float) -> float:
        """The largest one measured after `since`."""
        return max((late_s for at, late_s in self._late if at >= since), default=0.0)
