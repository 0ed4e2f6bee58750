"""What a session needs of the way to its client, whatever that way is."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from vita_duplex.engine.notices import Notice
from vita_duplex.server.audio.formats import AudioFormat
from vita_duplex.server.errors import ClientError

INTERNAL_ERROR = 1011
"""WebSocket close code, RFC 6455 section 7.4.1. Other transports have no codes and tell the reason, or nothing."""


@dataclass(frozen=True, slots=True)
class ClientKind:
    """What a client, or the transport in its place, wants to be sent."""

    vita_events: bool = False
    """Those that the reference does not know."""
    binary_audio: bool = False
    """Audio as bytes (`AUDIO_HEADER`, then samples) instead of JSON."""
    pauses: bool = False
    """On a hold the client falls silent at once, and keeps what it has not played."""
    plays: bool = False
    """The transport plays the audio; its client is told when that begins and ends."""
    wire_in: AudioFormat | None = None
    wire_out: AudioFormat | None = None
    """How the transport carries audio, if that is not the client's choice."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """Closes a connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Played:
    """A transport knows that so much of a turn was heard."""

    turn: int
    ms: float


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A key of the caller's telephone: 0-9, *, # or A-D."""

    digit: str


FromClient = str | bytes | Played | KeyPressed | ClientError
"""An event of the client as JSON, or audio in the session's input format, or what only the transport knows. The last
is what it could not read."""

Take = Callable[[FromClient], Awaitable[None]]


class Transport(Protocol):
    """One connection of a session's client; the session may outlive it."""

    number: int
    """Which of the session's connections it is, from 1."""
    closed: asyncio.Event
    """Its session is done with it."""

    @property
    def unread(self) -> int:
        """Bytes that wait for the client, without those it is sent again."""
        ...

    def tell(self, notice: Notice) -> None:
        """Know of a notice before its events are sent: a transport that plays the audio itself is silent from
        `TurnHeld` to `TurnResumed`, and drops what is left at the end of a turn that was cut."""
        ...

    def send(self, data: str | bytes, size: int) -> None:
        """Send an event, or audio. `size`: what it counts in `unread`."""
        ...

    def end(self, farewell: Farewell, *, flushed: bool) -> None:
        """Close after all that waits, or at once: nothing more is sent then, and nothing taken."""
        ...

    async def run(self, take: Take) -> bool:
        """Give what comes to `take` until the end. Return whether the client left for good."""
        ...

    async def close(self, farewell: Farewell) -> None: ...
