"""The sound of an MP4, M4A or MOV file, whole or in fragments (ISO 14496-12; QuickTime File Format)."""

import struct
from collections.abc import Iterator

from vita_duplex.engine.recordings.containers import Unreadable, adts

Boxes = Iterator[tuple[bytes, int, int]]
"""Kind, and where the contents begin and end."""


def sound(data: bytes) -> bytes:
    """AAC of the first track of sound, as an ADTS stream. Errors: `Unreadable`; `struct.error`, `IndexError`."""
    top = list(boxes(data, 0, len(data)))
    movie = next(((start, end) for kind, start, end in top if kind == b"moov"), None)
    if movie is None:
        raise Unreadable("the MP4 file is not whole: its index (moov) is missing")
    for kind, start, end in boxes(data, *movie):
        if kind == b"trak" and (media := inside(data, start, end, b"mdia")) and _handler(data, *media) == b"soun":
            table = _need(_need(media, data, b"minf"), data, b"stbl")
            number = struct.unpack_from(">I", data, _version_skip(data, _need((start, end), data, b"tkhd")[0]))[0]
            frames = list(_whole(data, table)) or list(_fragments(data, top, number))
            return adts(frames, _config(data, _need(table, data, b"stsd")))
    raise Unreadable("the file has no sound")


def boxes(data: bytes, start: int, end: int) -> Boxes:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size == 0:
            size = end - start
        if size < head:
            return
        yield kind, start + head, min(start + size, end)
        start += size


def inside(data: bytes, start: int, end: int, wanted: bytes) -> tuple[int, int] | None:
    return next(((begin, stop) for kind, begin, stop in boxes(data, start, end) if kind == wanted), None)


def _need(where: tuple[int, int], data: bytes, wanted: bytes) -> tuple[int, int]:
    found = inside(data, *where, wanted)
    if found is None:
        raise Unreadable(f"the MP4 file is damaged: {wanted.decode()} is missing")
    return found


def _handler(data: bytes, start: int, end: int) -> bytes:
    at = inside(data, start, end, b"hdlr")
    return data[at[0] + 8 : at[0] + 12] if at else b""


def _version_skip(data: bytes, at: int) -> int:
    """Where a tkhd has its track's number."""
    return at + (20 if data[at] == 1 else 12)


def _config(data: bytes, where: tuple[int, int]) -> bytes:
    """The AudioSpecificConfig in a sample description."""
    codec = data[where[0] + 12 : where[0] + 16]
    at = data.find(b"esds", *where)
    if codec != b"mp4a" or at < 0:
        raise Unreadable(f"the sound in it is {codec.decode('latin-1').strip()}, not AAC")
    at += 8
    while at < where[1]:
        tag, length, at = data[at], 0, at + 1
        while data[at] & 0x80:
            at += 1
        length = data[at]
        at += 1
        match tag:
            case 3:
                at += 3
            case 4:
                at += 13
            case 5:
                return data[at : at + length]
            case _:
                at += length
    raise Unreadable("the MP4 file is damaged: it does not describe its sound")


def _whole(data: bytes, table: tuple[int, int]) -> Iterator[bytes]:
    """Frames by the tables of a file that was finished."""
    size_at = _need(table, data, b"stsz")[0]
    fixed, count = struct.unpack_from(">II", data, size_at + 4)
    if not count:
        return
    sizes = [fixed] * count if fixed else list(struct.unpack_from(f">{count}I", data, size_at + 12))
    runs_at = _need(table, data, b"stsc")[0]
    runs = [struct.unpack_from(">III", data, runs_at + 8 + 12 * n) for n in range(_count(data, runs_at))]
    chunks = _chunks(data, table)
    place = 0
    for number, at in enumerate(chunks, 1):
        for _ in range(next(run[1] for run in reversed(runs) if run[0] <= number)):
            if place == count or at + sizes[place] > len(data):
                return
            yield data[at : at + sizes[place]]
            at, place = at + sizes[place], place + 1


def _chunks(data: bytes, table: tuple[int, int]) -> tuple[int, ...]:
    for kind, code in ((b"stco", "I"), (b"co64", "Q")):
        if found := inside(data, *table, kind):
            return struct.unpack_from(f">{_count(data, found[0])}{code}", data, found[0] + 8)
    raise Unreadable("the MP4 file is damaged: stco is missing")


def _count(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at + 4)[0])


def _fragments(data: bytes, top: list[tuple[bytes, int, int]], number: int) -> Iterator[bytes]:
    """Frames of a file that was written as it came, as browsers do."""
    for kind, start, end in top:
        if kind != b"moof":
            continue
        for inner, begin, stop in boxes(data, start, end):
            if inner == b"traf":
                yield from _fragment(data, begin, stop, start - 8, number)


def _fragment(data: bytes, start: int, end: int, moof: int, number: int) -> Iterator[bytes]:
    header = _need((start, end), data, b"tfhd")[0]
    flags, track = struct.unpack_from(">II", data, header)
    if track != number:
        return
    at, base, usual = header + 8, moof, 0
    for bit, width in ((1, 8), (2, 4), (8, 4), (16, 4)):
        if flags & bit:
            value = int.from_bytes(data[at : at + width], "big")
            base, usual = (value if bit == 1 else base), (value if bit == 16 else usual)
            at += width
    for kind, begin, _ in boxes(data, start, end):
        if kind == b"trun":
            yield from _run(data, begin, base, usual)


def _run(data: bytes, at: int, base: int, usual: int) -> Iterator[bytes]:
    flags, count = struct.unpack_from(">II", data, at)
    at += 8
    place = base
    if flags & 1:
        place += struct.unpack_from(">i", data, at)[0]
        at += 4
    at += 4 if flags & 4 else 0
    for _ in range(count):
        at += 4 if flags & 0x100 else 0
        size = usual
        if flags & 0x200:
            size = struct.unpack_from(">I", data, at)[0]
            at += 4
        at += 4 * bool(flags & 0x400) + 4 * bool(flags & 0x800)
        if place + size > len(data):
            return
        yield data[place : place + size]
        place += size
