"""Any recording becomes mono samples: the one reader of commands, chats and transcription.

libsndfile reads what it knows (its wheel has FLAC, Ogg, Opus and MP3). What browsers and phones record is taken out of
its container first: Opus in WebM is Ogg Opus then, and AAC is decoded by sphn (Symphonia).
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.recordings import mp4, webm
from vita_duplex.engine.recordings.containers import Unreadable

TAKEN = "WAV, FLAC, MP3, Ogg, AIFF, AU, CAF, W64; Opus in WebM; AAC in M4A, MP4 and MOV"
HIGHEST_RATE = 192_000
"""Hz; what is above bounds the memory of decoding."""
BLOCK = 65_536
AUDIBLE_OFFSET = 0.005
"""A constant offset below that (-46 dBFS) is left as it is."""

Block = NDArray[np.float32]
"""Shape [n, channels]."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A recording whose header was read."""

    rate: int
    _data: bytes
    _longest_s: float

    def blocks(self) -> Iterator[Samples]:
        """Its loudest channel, without a constant offset. Errors: `Unreadable`, also where it is too long."""
        count, total, square = 0, np.zeros(0), np.zeros(0)
        for block in self._decoded():
            wide = block.astype(np.float64)
            count += len(block)
            total = wide.sum(axis=0) + (total if total.size else 0)
            square = (wide**2).sum(axis=0) + (square if square.size else 0)
        if not count:
            return
        mean = total / count
        power = np.round(square / count - mean**2, 12)
        channel = int(np.argmax(power))
        is_offset = abs(mean[channel]) > AUDIBLE_OFFSET and power[channel] > 0  # a constant alone is left as it is
        offset = np.float32(mean[channel] if is_offset else 0)
        for block in self._decoded():
            yield np.ascontiguousarray(block[:, channel]) - offset

    def _decoded(self) -> Iterator[Block]:
        count = 0
        with _open(self._data) as file:
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                count += len(block)
                if count > self._longest_s * self.rate:
                    raise Unreadable(f"the audio is too long: at most {self._longest_s:g} s")
                if not np.isfinite(block).all():
                    raise Unreadable("the audio holds samples that are not numbers")
                yield block


def opened(encoded: bytes, longest_s: float) -> Opened:
    """Read the header of a recording; what is longer than `longest_s` is refused. Blocks for as long as AAC takes.

    Errors: `Unreadable`, whose text is one line for whoever sent it.
    """
    if not encoded:
        raise Unreadable("the audio is empty")
    data = _as_known(encoded)
    with _open(data) as file:
        rate: int = file.samplerate
    if rate > HIGHEST_RATE:
        raise Unreadable(f"the audio has {rate} samples a second; at most {HIGHEST_RATE}")
    return Opened(rate, data, longest_s)


def read(encoded: bytes, longest_s: float) -> tuple[Samples, int]:
    """The whole of a recording and its rate. Errors: as `opened`."""
    recording = opened(encoded, longest_s)
    return np.concatenate([np.zeros(0, np.float32), *recording.blocks()]), recording.rate


@contextmanager
def _open(data: bytes) -> Iterator[Any]:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            yield file
    except soundfile.LibsndfileError as error:
        why = error.error_string.rstrip(".")
        raise Unreadable(f"the audio cannot be decoded ({why}); taken are {TAKEN}") from error


def _as_known(encoded: bytes) -> bytes:
    """The same sound as libsndfile can read it."""
    try:
        match encoded[:4], encoded[4:8]:
            case b"RIFF", _:
                return _ended(encoded)
            case b"\x1aE\xdf\xa3", _:
                kind, stream = webm.sound(encoded)
                return _decoded_aac(stream) if kind == "aac" else stream
            case _, b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free" | b"skip":
                return _decoded_aac(mp4.sound(encoded))
        if encoded[0] == 0xFF and encoded[1] & 0xF6 == 0xF0:  # ADTS (ISO 13818-7): sync, layer 0
            return _decoded_aac(encoded)
    except Unreadable as error:
        raise Unreadable(f"{error}; taken are {TAKEN}") from error
    except (IndexError, struct.error, ValueError) as error:
        raise Unreadable("the audio is damaged") from error
    return encoded


def _ended(wav: bytes) -> bytes:
    """A WAV file whose recorder was interrupted says that it has no samples: all that follows is."""
    at = 12
    while at + 8 <= len(wav):
        size = int.from_bytes(wav[at + 4 : at + 8], "little")
        if wav[at : at + 4] == b"data":
            rest = len(wav) - at - 8
            if size:
                return wav
            return b"RIFF" + struct.pack("<I", len(wav) - 8) + wav[8 : at + 4] + struct.pack("<I", rest) + wav[at + 8 :]
        at += 8 + size + size % 2
    return wav


def _decoded_aac(stream: bytes) -> bytes:
    """AAC frames with ADTS headers as a WAV file."""
    try:
        import sphn
    except ImportError as error:
        raise Unreadable("AAC needs the package sphn, which is not installed") from error

    file = os.memfd_create("aac")
    try:
        with open(file, "wb", closefd=False) as whole:
            whole.write(stream)
        samples, rate = sphn.read(f"/proc/self/fd/{file}")
    except Exception as error:  # a foreign package, damaged files
        raise Unreadable("the AAC in it cannot be decoded") from error
    finally:
        os.close(file)
    wav = io.BytesIO()
    soundfile.write(wav, np.asarray(samples, np.float32).T, rate, format="WAV", subtype="FLOAT")
    return wav.getvalue()
