"""Opus packets as an Ogg file (RFC 3533, RFC 7845), which libsndfile reads."""

import struct
from collections.abc import Sequence

PACKETS = 8
"""On a page: a page has at most 255 segments, and the longest packet takes 31."""
_TABLE = []
for _byte in range(256):
    _crc = _byte << 24
    for _ in range(8):
        _crc = (_crc << 1 ^ (0x04C11DB7 if _crc & 0x80000000 else 0)) & 0xFFFFFFFF
    _TABLE.append(_crc)


def ogg_opus(head: bytes, packets: Sequence[bytes]) -> bytes:
    """`head`: the OpusHead, as a WebM file keeps it."""
    tags = b"OpusTags" + struct.pack("<II", 0, 0)
    pages = [_page([head], 0, 0, 2), _page([tags], 0, 1, 0)]
    at = 0
    for start in range(0, len(packets), PACKETS):
        some = [packet for packet in packets[start : start + PACKETS] if packet]
        at += sum(map(samples, some))
        last = start + PACKETS >= len(packets)
        pages.append(_page(some, at, len(pages), 4 if last else 0))
    return b"".join(pages)


def samples(packet: bytes) -> int:
    """Length of an Opus packet at 48 kHz (RFC 6716, 3.1)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    return frame * (1 if code == 0 else 2 if code < 3 else packet[1] & 63 if len(packet) > 1 else 0)


def _page(packets: Sequence[bytes], granule: int, number: int, flags: int) -> bytes:
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, 1, number, 0) + bytes([len(lacing)]) + lacing
    page = head + b"".join(packets)
    return page[:22] + struct.pack("<I", _checksum(page)) + page[26:]


def _checksum(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _TABLE[crc >> 24 ^ byte]
    return crc
