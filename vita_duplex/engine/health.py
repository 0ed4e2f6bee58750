"""How well instances and other parts work, by what their uses tell. Pure: `now` in seconds."""

from typing import Literal

Cause = Literal["slow", "failing"]

WINDOW_S = 30.0
"""A report that is older is no evidence any more."""
WITNESSES = 2
"""Sessions that have to report one cause before all avoid an instance: of one alone the request may be the cause."""
SHARE = 0.1
"""The same as a share of an instance's sessions: under load some requests stall wherever they are."""

FAILURE_S = 60.0
"""A part in the cloud is asked again after this long, by a user: a probe would be paid for."""
UNUSED_S = 60.0
"""A local part that nobody has used for so long is probed."""
RETRY_S = 10.0
"""So is one whose latest use has failed, after this long."""


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
    """Whether a part that is no instance works, by its latest use. A part is taken to work until a use has failed."""

    def __init__(self, *, local: bool = True) -> None:
        """`local`: a probe costs nothing."""
        self._local = local
        self._latest: tuple[bool, float] | None = None

    def note(self, works: bool, now: float) -> None:
        self._latest = works, now

    def works(self, now: float) -> bool:
        if self._latest is None:
            return True
        worked, at = self._latest
        return worked or (not self._local and now - at >= FAILURE_S)

    def wants_probe(self, now: float) -> bool:
        if not self._local or self._latest is None:
            return self._local
        worked, at = self._latest
        return now - at >= (UNUSED_S if worked else RETRY_S)
