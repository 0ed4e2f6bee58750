"""Opus by libopus itself (BSD): with what the media library of aiortc leaves out, in-band FEC and concealment.

Reference: the API of libopus 1.x, opus.h and opus_defines.h; RFC 6716 and RFC 7587.
"""

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_int, c_int16, c_int32, c_void_p
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OUT_RATE, OUT_FRAME = 24_000, 480
"""Samples per second and per packet of 20 ms that we send."""
IN_RATE = 16_000
"""What we decode to: libopus needs no resampler for the rate of our listener."""
LONGEST_S = 0.12
"""The longest packet, RFC 6716 section 3.2.5."""
BITRATE, COMPLEXITY, LOSS_PERCENT = 32_000, 5, 10
"""Full-band speech; half of libopus' effort, which nobody hears at this rate; the loss that FEC prepares for."""

VOIP = 2048
SET_BITRATE, SET_COMPLEXITY, SET_FEC, SET_LOSS = 4002, 4010, 4012, 4014
_MAX_PACKET = 1276


class NoOpus(Exception):
    """There is no libopus on this machine."""


@cache
def _library() -> ctypes.CDLL:
    """The system's libopus, or that in the wheel of PyAV. Errors: `NoOpus`."""
    names = [ctypes.util.find_library("opus")]
    if av := find_spec("av"):
        assert av.origin is not None
        names += sorted(str(path) for path in (Path(av.origin).parent.parent / "av.libs").glob("libopus*"))
    for name in filter(None, names):
        try:
            return _declared(ctypes.CDLL(name))
        except OSError:
            continue
    raise NoOpus("libopus is missing: install it (libopus0), or the wheel of PyAV")


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.opus_encoder_create.restype = library.opus_decoder_create.restype = c_void_p
    library.opus_encoder_create.argtypes = [c_int32, c_int, c_int, POINTER(c_int)]
    library.opus_decoder_create.argtypes = [c_int32, c_int, POINTER(c_int)]
    library.opus_encode.argtypes = [c_void_p, c_char_p, c_int, c_char_p, c_int32]
    library.opus_decode.argtypes = [c_void_p, c_char_p, c_int32, POINTER(c_int16), c_int, c_int]
    library.opus_encoder_destroy.argtypes = library.opus_decoder_destroy.argtypes = [c_void_p]
    return library


class Encoder:
    """One stream of mono speech out."""

    def __init__(self) -> None:
        """Errors: `NoOpus`."""
        self._library, error = _library(), c_int()
        self._state = c_void_p(self._library.opus_encoder_create(OUT_RATE, 1, VOIP, byref(error)))
        assert error.value == 0, error.value
        options = ((SET_BITRATE, BITRATE), (SET_COMPLEXITY, COMPLEXITY), (SET_FEC, 1), (SET_LOSS, LOSS_PERCENT))
        for option, value in options:
            self._library.opus_encoder_ctl(self._state, c_int(option), c_int32(value))
        self._packet = ctypes.create_string_buffer(_MAX_PACKET)

    def encode(self, pcm16: bytes) -> bytes:
        """The packet of one frame. libopus' own DTX is off: it takes a hum for silence."""
        size = self._library.opus_encode(self._state, pcm16, OUT_FRAME, self._packet, _MAX_PACKET)
        return self._packet.raw[:size]

    def __del__(self) -> None:
        if state := getattr(self, "_state", None):
            self._library.opus_encoder_destroy(state)


class Decoder:
    """One stream in. Packets that are no Opus are concealed like lost ones."""

    def __init__(self) -> None:
        """Errors: `NoOpus`."""
        self._library, error = _library(), c_int()
        self._state = c_void_p(self._library.opus_decoder_create(IN_RATE, 1, byref(error)))
        assert error.value == 0, error.value
        self._room = int(IN_RATE * LONGEST_S)
        self._samples = (c_int16 * self._room)()

    def decode(self, packet: bytes) -> bytes:
        """The packet's samples, 16 bit."""
        return self._run(packet, self._room, 0) or self.conceal(0.02)

    def conceal(self, seconds: float) -> bytes:
        """What may have been in a lost packet."""
        return self._run(None, int(seconds * IN_RATE), 0)

    def recover(self, following: bytes, seconds: float) -> bytes:
        """What was in a lost packet, as far as the following one says."""
        return self._run(following, int(seconds * IN_RATE), 1) or self.conceal(seconds)

    def _run(self, packet: bytes | None, frame: int, fec: int) -> bytes:
        size = len(packet) if packet else 0
        count = self._library.opus_decode(self._state, packet, size, self._samples, frame, fec)
        return bytes(memoryview(self._samples).cast("B")[: 2 * count]) if count > 0 else b""

    def __del__(self) -> None:
        if state := getattr(self, "_state", None):
            self._library.opus_decoder_destroy(state)


def duration(packet: bytes) -> int:
    """Samples at 48 kHz in a packet, by its first two bytes (RFC 6716 section 3.1); 0 if it is none."""
    if not packet:
        return 0
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    count = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    return frame * count
