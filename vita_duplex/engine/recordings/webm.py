"""The sound of a WebM or Matroska file (RFC 9559), also of one that was cut off or never said how long it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from vita_duplex.engine.recordings.containers import Unreadable, adts
from vita_duplex.engine.recordings.ogg import ogg_opus

HOLDERS = frozenset({0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675, 0xA0})
"""Segment, Tracks, TrackEntry, Cluster and BlockGroup: elements that hold those that are looked for."""


@dataclass(slots=True)
class Track:
    number: int = 0
    codec: str = ""
    private: bytes = b""
    frames: list[bytes] = field(default_factory=list)


def sound(data: bytes) -> tuple[str, bytes]:
    """What the first track of sound is, and its stream: `aac` with ADTS headers, else a file that libsndfile reads.

    Errors: `Unreadable`; `IndexError`.
    """
    tracks: list[Track] = []
    for kind, content in elements(data, 0, len(data)):
        match kind:
            case 0xAE:  # TrackEntry
                tracks.append(Track())
            case 0xD7 if tracks:  # TrackNumber
                tracks[-1].number = int.from_bytes(content, "big")
            case 0x86 if tracks:  # CodecID
                tracks[-1].codec = content.rstrip(b"\0").decode("latin-1")
            case 0x63A2 if tracks:  # CodecPrivate
                tracks[-1].private = content
            case 0xA3 | 0xA1:  # SimpleBlock, Block
                _take(content, tracks)
    heard = next((track for track in tracks if track.codec.startswith("A_")), None)
    if heard is None:
        raise Unreadable("the file has no sound")
    match heard.codec:
        case "A_OPUS":
            return "opus", ogg_opus(heard.private, heard.frames)
        case "A_AAC":
            return "aac", adts(heard.frames, heard.private)
        case "A_MPEG/L3":
            return "mp3", b"".join(heard.frames)
        case "A_FLAC":
            return "flac", heard.private + b"".join(heard.frames)
    raise Unreadable(f"the sound in it is {heard.codec.removeprefix('A_')}")


def elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Every element with its content; those that hold others come without, before what they hold."""
    while at < end:
        try:
            kind, at = _number(data, at, keep_marker=True)
            size, at = _number(data, at, keep_marker=False)
        except IndexError:
            return  # it was cut off here
        if kind in HOLDERS:
            yield kind, b""
            continue  # into it: where it ends does not matter, nor whether it says so
        yield kind, data[at : at + size]
        at += size


def _number(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    first = data[at]
    if not first:
        raise Unreadable("the WebM file is damaged")
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return value if keep_marker else value & ((1 << 7 * length) - 1), at + length


def _take(block: bytes, tracks: list[Track]) -> None:
    """Put a block's frame to its track. Errors: `Unreadable` for frames that share a block."""
    number, at = _number(block, 0, keep_marker=False)
    track = next((track for track in tracks if track.number == number), None)
    if track and track.codec.startswith("A_"):
        if block[at + 2] & 0x06:
            raise Unreadable("the sound in it is laced")
        track.frames.append(block[at + 3 :])
