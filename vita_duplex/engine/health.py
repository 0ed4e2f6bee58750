"""How well instances and other parts work, by what their uses tell. Pure: `now` in seconds."""

import math
from typing import Literal

Cause = Literal["slow", "failing"]

WINDOW_S = 30.0
"""A report that is older is no evidence any more."""
WITNESSES = 2
"""Sessions that have to report one cause before all avoid an instance: of one alone the request may be the cause."""
SHARE = 0.1
"""The same as a share of an instance's sessions: under load some requests stall wherever they are."""

FAILURES = 3
"""Failures in a row before a part in the cloud counts as down: it may refuse one text and speak the next."""
FAILURE_S = 60.0
"""A part in the cloud counts as down for so long: only its users can find out that it works again."""
UNUSED_S = 60.0
"""A local part that nobody has used for so long is probed."""
RETRY_S = 10.0
"""Between two probes of one part."""


class Health:
    """Why an instance is doubted, and by whom.

    A session avoids an instance that it has reported. Reports of one cause by several sessions, or an instance that
    cannot compute, make all sessions avoid it. A computation that succeeds ends every doubt.
    """

    def __init__(self) -> None:
        self.broken = False
        """The instance could not compute, or has not computed yet."""
        self._shared = False
        self._reports: dict[Cause, dict[int, float]] = {"slow": {}, "failing": {}}

    @property
    def doubted(self) -> bool:
        """Whether all sessions avoid the instance."""
        return self.broken or self._shared

    @property
    def suspected(self) -> bool:
        """Whether anybody avoids it: a probe has to decide."""
        return self.doubted or any(self._reports.values())

    def doubted_by(self, session: int | None) -> bool:
        """Whether a session avoids the instance; None is a request of no session."""
        return self.doubted or any(session in reports for reports in self._reports.values())

    def report(self, cause: Cause, session: int, sessions: int, now: float) -> None:
        """A session saw the instance stall or fail; `sessions` is how many the instance has."""
        recent = {other: at for other, at in self._reports[cause].items() if now - at < WINDOW_S}
        self._reports[cause] = recent | {session: now}
        self._shared = self._shared or len(self._reports[cause]) >= max(WITNESSES, SHARE * sessions)

    def withdraw(self, cause: Cause, session: int) -> bool:
        """A session saw the opposite; False if it had reported nothing."""
        return self._reports[cause].pop(session, None) is not None


class Standing:
    """Whether a part that is no instance works, by its latest uses.

    A part works until a use fails. A local part is probed then, and when nobody uses it; a part in the cloud, where
    every use is paid for, never is.
    """

    def __init__(self, *, local: bool = True) -> None:
        self._local = local
        self._failures = 0
        self._used = self._probed = -math.inf

    def note(self, works: bool, now: float) -> None:
        """A use or a probe has ended like this."""
        self._failures = 0 if works else self._failures + 1
        self._used = now

    def works(self, now: float) -> bool:
        if self._local:
            return self._failures == 0
        return self._failures < FAILURES or now - self._used >= FAILURE_S

    def wants_probe(self, now: float) -> bool:
        unsure = self._failures > 0 or now - self._used >= UNUSED_S
        return self._local and unsure and now - self._probed >= RETRY_S

    def probed(self, now: float) -> None:
        """A probe has begun."""
        self._probed = now
