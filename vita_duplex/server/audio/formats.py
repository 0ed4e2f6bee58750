"""Audio as it is on the wire: PCM16 at 24 or 16 kHz, and G.711 at 8 kHz, the telephone's. Pure.

G.711 by the tables of ITU-T recommendation G.711 (11/88); the standard library's `audioop`, which had them, is gone
since Python 3.13.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vita_duplex.engine.audio import Samples

PCM_RATES = (24_000, 16_000)
"""24 kHz is OpenAI's only one, 16 kHz saves a third."""
G711_RATE = 8_000


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How samples become bytes. `rate` in Hz, `width` in bytes per sample."""

    type: str
    rate: int
    width: int
    encode: Callable[[Samples], bytes]
    decode: Callable[[bytes], Samples]
    """Any bytes whose number `width` divides; float32 in [-1, 1)."""

    def describe(self) -> dict[str, object]:
        """As the `format` of a session."""
        return {"type": self.type, "rate": self.rate} if self.type == "audio/pcm" else {"type": self.type}


def decode_pcm16(data: bytes) -> Samples:
    """Little-endian 16 bit samples as float32 in [-1, 1)."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def encode_pcm16(samples: Samples) -> bytes:
    """Float32 in [-1, 1] as little-endian 16 bit samples; louder is clipped."""
    return _int16(samples).tobytes()


def _int16(samples: Samples) -> NDArray[np.int16]:
    values = np.rint(samples * np.float32(32768))
    clipped: Samples = np.minimum(np.maximum(values, -32768), 32767)  # np.clip takes twice as long
    return clipped.astype("<i2")


def _mu_law_levels() -> NDArray[np.int16]:
    """The 16 bit value of each of the 256 codes."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 132) << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _a_law_levels() -> NDArray[np.int16]:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 264) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _mu_law_codes() -> NDArray[np.uint8]:
    """The code of each 16 bit value, from -32768 on."""
    value = np.arange(-32768, 32768) >> 2  # 14 bits, as the recommendation counts
    magnitude = np.minimum(np.abs(value), 8158) + 33
    exponent = np.floor(np.log2(magnitude)).astype(int) - 5
    code = exponent << 4 | (magnitude >> (exponent + 1) & 0x0F)
    return np.asarray(code ^ np.where(value < 0, 0x7F, 0xFF), np.uint8)


def _a_law_codes() -> NDArray[np.uint8]:
    value = np.arange(-32768, 32768) >> 3  # 13 bits
    magnitude = np.where(value < 0, -value - 1, value)
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(int) - 4, 0)
    code = exponent << 4 | (magnitude >> np.maximum(exponent, 1) & 0x0F)
    return np.asarray(code ^ np.where(value < 0, 0x55, 0xD5), np.uint8)


def _g711(type_: str, levels: NDArray[np.int16], codes: NDArray[np.uint8]) -> AudioFormat:
    values = levels.astype(np.float32) / np.float32(32768)

    def encode(samples: Samples) -> bytes:
        return codes[_int16(samples).astype(np.int32) + 32768].tobytes()

    def decode(data: bytes) -> Samples:
        return values[np.frombuffer(data, np.uint8)]

    return AudioFormat(type_, G711_RATE, 1, encode, decode)


PCMU = _g711("audio/pcmu", _mu_law_levels(), _mu_law_codes())
PCMA = _g711("audio/pcma", _a_law_levels(), _a_law_codes())


def pcm(rate: int) -> AudioFormat:
    return AudioFormat("audio/pcm", rate, 2, encode_pcm16, decode_pcm16)


DEFAULT = pcm(24_000)
