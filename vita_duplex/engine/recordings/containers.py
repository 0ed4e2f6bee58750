"""What the readers of containers share: their error, and AAC frames with headers of their own."""

from collections.abc import Iterable

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
"""Sampling frequencies by their index (ISO 14496-3, table 1.16)."""


class Unreadable(ValueError):
    """The recording cannot be read; the text is one line for whoever sent it."""


def adts(frames: Iterable[bytes], config: bytes) -> bytes:
    """AAC frames as a stream with a header each (ISO 13818-7, 6.2), by their AudioSpecificConfig (14496-3, 1.6.2.1).

    Of HE-AAC the core is left: half its rate, which is enough for speech. Errors: `Unreadable`.
    """
    bits = int.from_bytes(config[:2], "big")
    kind, rate, channels = bits >> 11, bits >> 7 & 15, bits >> 3 & 15
    if rate >= len(RATES) or not 1 <= channels <= 7:
        raise Unreadable("the AAC in it has a rate or channels that are not known")
    if kind not in (2, 5, 29):  # LC; SBR; PS
        raise Unreadable(f"the AAC in it is of object type {kind}; LC and HE are read")
    head = 0xFFF1 << 40 | 1 << 38 | rate << 34 | channels << 30 | 0x7FF << 2
    return b"".join((head | (len(frame) + 7) << 13).to_bytes(7, "big") + frame for frame in frames)
