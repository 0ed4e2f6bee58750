"""What one client may use: rates, as token buckets, and how long a session may last. Pure; times are in seconds."""

from dataclasses import dataclass, field

from vita_duplex.config import LimitsConfig
from vita_duplex.server.errors import Refusal

MINUTE, DAY = 60.0, 86_400.0
MESSAGE_LIMIT = 16 * 1024 * 1024
"""Bytes of one WebSocket message or HTTP body; OpenAI allows 15 MiB of audio in an append."""


class TokenBucket:
    """`rate` tokens a second, of which up to `capacity` are saved up."""

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._tokens = capacity
        self._counted = now

    def available(self, now: float) -> float:
        """Tokens there are; negative after `spend` took more."""
        self._tokens = min(self._capacity, self._tokens + (now - self._counted) * self._rate)
        self._counted = now
        return self._tokens

    def take(self, tokens: float, now: float) -> bool:
        """Take them if they are there."""
        if self.available(now) < tokens:
            return False
        self._tokens -= tokens
        return True

    def spend(self, tokens: float, now: float) -> None:
        """Take them in any case."""
        self._tokens = self.available(now) - tokens

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until there are so many."""
        return max(0.0, (tokens - self.available(now)) / self._rate)


class AudioAllowance:
    """Microphone audio may come faster than real time only up to a bound.

    When the bound is reached, audio is refused until half of it is free again: one long gap is better than a
    syllable missing here and there.
    """

    def __init__(self, ahead_s: float, now: float) -> None:
        self._bucket = TokenBucket(1.0, ahead_s, now)
        self._ahead_s = ahead_s
        self._refusing = False

    def take(self, seconds: float, now: float) -> bool:
        if self._refusing and self._bucket.available(now) >= self._ahead_s / 2:
            self._refusing = False
        if not self._refusing and not self._bucket.take(seconds, now):
            self._refusing = True
        return not self._refusing


@dataclass(slots=True)
class Usage:
    """What the sessions of one key use together."""

    max_sessions: int | None
    bytes_in: TokenBucket
    session_time: TokenBucket | None
    """Seconds; refilled over a day."""
    sessions: int = field(default=0, init=False)

    @staticmethod
    def under(limits: LimitsConfig, now: float) -> "Usage":
        minutes = limits.key_minutes_per_day
        return Usage(
            limits.key_sessions,
            # At least a message fits, or a large one could never be paid for.
            TokenBucket(limits.key_bytes_per_s, max(limits.key_bytes_per_s, MESSAGE_LIMIT), now),
            TokenBucket(minutes * MINUTE / DAY, minutes * MINUTE, now) if minutes else None,
        )

    def refusal(self, now: float) -> Refusal | None:
        """Why no further session may be opened."""
        if self.max_sessions is not None and self.sessions >= self.max_sessions:
            message = f"This key has its {self.max_sessions} conversations already; end one first."
            return Refusal("key_session_limit_reached", message)
        if self.session_time is not None and (wait := self.session_time.wait(MINUTE, now)):
            message = "The minutes of this key are used up; they come back over the day."
            return Refusal("key_minutes_used_up", message, wait)
        return None


class Lifetime:
    """When a session is over: nothing came from the client, it lasted its longest, or its key's time is used up."""

    CHARGE_S = 10.0
    """How often the time is charged to the key."""

    def __init__(self, limits: LimitsConfig, session_time: TokenBucket | None, now: float) -> None:
        self._limits = limits
        self._session_time = session_time
        self._heard = now
        self._ends = now + limits.session_s
        self._charged = now

    def heard(self, now: float) -> None:
        """Something came from the client."""
        self._heard = now

    @property
    def deadline(self) -> float:
        """When `over` wants to be asked again."""
        deadline = min(self._heard + self._limits.idle_s, self._ends)
        return deadline if self._session_time is None else min(deadline, self._charged + self.CHARGE_S)

    def over(self, now: float) -> Refusal | None:
        """Why the session ends now, if it does."""
        self.charge(now)
        if now >= self._ends:
            return Refusal("session_expired", f"The session reached its longest, {self._limits.session_s:.0f} s.")
        if now >= self._heard + self._limits.idle_s:
            return Refusal("session_idle", f"Nothing came from the client for {self._limits.idle_s:.0f} s.")
        if self._session_time is not None and self._session_time.available(now) <= 0:
            return Refusal("key_minutes_used_up", "The minutes of this key are used up; they come back over the day.")
        return None

    def charge(self, now: float) -> None:
        """Take what passed off the key's time."""
        if self._session_time is not None:
            self._session_time.spend(now - self._charged, now)
        self._charged = now
