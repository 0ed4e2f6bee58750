"""WAV files of mono speech (Microsoft, "Multimedia Programming Interface and Data Specifications 1.0", 1991). Pure."""

import io
import struct
from typing import Literal

import soundfile

from vita_duplex.engine.audio import INPUT_RATE, Samples

UNKNOWN = 0xFFFF_FFFF
"""The length in the header of what is still being written, as OpenAI and FFmpeg have it."""


def wav(samples: Samples, subtype: Literal["PCM_16", "FLOAT"]) -> bytes:
    """A whole file at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, samples, INPUT_RATE, format="WAV", subtype=subtype)
    return file.getvalue()


def stream_header(rate: int) -> bytes:
    """What stands before PCM16 whose length is not known yet."""
    form = struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE")
    fields = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return form + fields + struct.pack("<4sI", b"data", UNKNOWN)
