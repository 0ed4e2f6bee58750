"""On what terms a client has its session."""

from collections.abc import Callable
from dataclasses import dataclass

from vita_duplex.server.access.limits import AudioAllowance, Lifetime, TokenBucket
from vita_duplex.server.access.shedding import Step
from vita_duplex.server.drain import Drain
from vita_duplex.server.observe.watch import SessionWatch
from vita_duplex.server.realtime.client_events import SessionUpdateFields


@dataclass(frozen=True, slots=True)
class Terms:
    """What the server lays down for one session."""

    session_id: str
    lifetime: Lifetime
    audio: AudioAllowance
    bytes_in: TokenBucket
    """Shared by all sessions of the key."""
    drain: Drain
    watch: SessionWatch
    shedding: Callable[[], Step]
    """What is left out now."""
    resume_token: str | None = None
    """With which the client may come back; None if it did not ask for one."""
    wanted: SessionUpdateFields | None = None
    """Settings that came with the client's ephemeral key."""
    early: tuple[str, ...] = ()
    """Text frames the client sent while it waited for the session."""
