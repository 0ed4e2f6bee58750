"""Speech as files that can be sent while they are written: the formats of `/v1/audio/speech`.

MP3, Opus and FLAC by libsndfile (LGPL, as is its LAME; Opus and FLAC are BSD). FLAC that does not know its length is
refused by some readers, libsndfile among them, so that comes in one piece. For AAC there is no encoder here: those of
FFmpeg come with GPL parts, and FDK's licence is not free.
"""

import io
from typing import Any, Protocol

import soundfile

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.wav import stream_header
from vita_duplex.server.audio.formats import encode_pcm16


class Encoder(Protocol):
    """One file. `finish` gives its end."""

    def push(self, samples: Samples) -> bytes: ...

    def finish(self) -> bytes: ...


class Pcm:
    """16 bits, little-endian, after a header or none."""

    def __init__(self, header: bytes = b"") -> None:
        self._header = header

    def push(self, samples: Samples) -> bytes:
        header, self._header = self._header, b""
        return header + encode_pcm16(samples)

    def finish(self) -> bytes:
        return b""


class Compressed:
    """What libsndfile writes, as it comes."""

    def __init__(self, rate: int, format: str, subtype: str, **quality: Any) -> None:
        self._sink = _Sink()
        self._file = soundfile.SoundFile(self._sink, "w", rate, 1, subtype, format=format, **quality)

    def push(self, samples: Samples) -> bytes:
        self._file.write(samples)
        return self._sink.take()

    def finish(self) -> bytes:
        self._file.close()
        return self._sink.take()


class Flac:
    """Given out at the end, when the header says how long it is."""

    def __init__(self, rate: int) -> None:
        self._data = io.BytesIO()
        self._file = soundfile.SoundFile(self._data, "w", rate, 1, "PCM_16", format="FLAC")

    def push(self, samples: Samples) -> bytes:
        self._file.write(samples)
        return b""

    def finish(self) -> bytes:
        self._file.close()
        return self._data.getvalue()


class _Sink:
    """A file of which the written part is taken away. At the end libsndfile writes lengths into the header; when that
    is gone, they stay unknown there, which players of streams are used to."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._gone = self._at = 0

    def take(self) -> bytes:
        taken = bytes(self._kept)
        self._gone += len(taken)
        self._kept.clear()
        return taken

    def write(self, data: bytes) -> int:
        data = bytes(data)
        start = self._at - self._gone
        if start >= 0:
            self._kept[start : start + len(data)] = data
        self._at += len(data)
        return len(data)

    def read(self, count: int = -1) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._gone + len(self._kept))[whence]
        return self._at

    def tell(self) -> int:
        return self._at


MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


def encoder(format: str, rate: int) -> Encoder:
    """For one of `MEDIA_TYPES`."""
    match format:
        case "mp3":
            # Constant, for a length that is not in the header is guessed from the bit rate: here 80 kbit/s.
            return Compressed(rate, "MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.5)
        case "opus":
            return Compressed(rate, "OGG", "OPUS")
        case "flac":
            return Flac(rate)
        case "wav":
            return Pcm(stream_header(rate))
        case _:
            return Pcm()
