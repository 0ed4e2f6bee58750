"""RTP of a microphone as a stream without gaps: packets in order, lost ones, and the silence of DTX. Pure.

Times are in seconds; samples count at 48 kHz, the clock of Opus in RTP (RFC 7587).
"""

from dataclasses import dataclass

from vita_duplex.server.audio.in_order import InOrder

RATE = 48_000
DEPTH = 4
"""A packet that is missing is waited for until so many later ones are there: 60 ms of jitter with packets of 20 ms."""
QUIET_S = 0.1
"""When nothing has come for so long it is silent: a browser that hears nothing sends nothing (DTX)."""
CONCEALED = RATE // 10
"""Longer losses are silence: what a decoder makes up fades out by then."""
LONGEST_GAP = 10 * RATE
"""A timestamp that is further ahead begins a new count."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An Opus packet."""

    timestamp: int
    data: bytes
    samples: int


@dataclass(frozen=True, slots=True)
class Lost:
    """So many samples were lost; `following` may know what was in the last of them."""

    samples: int
    following: bytes


@dataclass(frozen=True, slots=True)
class Silence:
    samples: int


Piece = Packet | Lost | Silence


class Incoming:
    """One stream of RTP."""

    def __init__(self, now: float) -> None:
        self.lost = 0
        """Packets."""
        self._order: InOrder[Packet] = InOrder(DEPTH)
        self._newest = 0  # sequence number, unwrapped
        self._expected: int | None = None  # timestamp of the next sample
        self._missing = 0  # packets before the next one
        self._filled = 0  # samples of silence that were given out ahead of the next packet
        self._came = now

    def push(self, sequence: int, packet: Packet, now: float) -> list[Piece]:
        """`sequence`: 16 bits."""
        number = self._newest + ((sequence - self._newest + 0x8000) & 0xFFFF) - 0x8000
        self._newest = max(self._newest, number)
        self._came = now
        pieces: list[Piece] = []
        for one in self._order.push(number, packet):
            if one is None:
                self.lost += 1
                self._missing += 1
            else:
                pieces += self._next(one)
        return pieces

    def tick(self, now: float) -> list[Piece]:
        """What time alone brings."""
        samples = int((now - self._came - QUIET_S) * RATE) - self._filled
        if self._expected is None or samples < RATE // 50:
            return []
        self._filled += samples
        return [Silence(samples)]

    def _next(self, packet: Packet) -> list[Piece]:
        gap = 0 if self._expected is None else (packet.timestamp - self._expected + (1 << 31)) % (1 << 32) - (1 << 31)
        missing, self._missing, filled, self._filled = self._missing, 0, self._filled, 0
        self._expected = (packet.timestamp + packet.samples) % (1 << 32)
        pieces: list[Piece] = []
        if 0 < gap <= LONGEST_GAP:
            lost = min(gap, CONCEALED, missing * packet.samples)
            silence = gap - lost - filled
            pieces += [Silence(silence)] if silence > 0 else []
            pieces += [Lost(lost, packet.data)] if lost else []
        return [*pieces, packet]
