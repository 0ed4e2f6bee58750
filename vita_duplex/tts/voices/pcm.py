"""16-bit samples from bytes that come in any portions, as networks and pipes give them. Pure."""

import numpy as np

from vita_duplex.engine.audio import Samples


class Pcm16:
    """Decodes signed 16-bit little-endian mono."""

    def __init__(self) -> None:
        self._half = b""
        """The first byte of a sample whose second one is still to come."""

    def push(self, portion: bytes) -> Samples:
        """The samples that are complete, in [-1, 1)."""
        data = self._half + portion
        whole = len(data) & ~1
        self._half = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)


class Wav:
    """Decodes a mono 16-bit WAV stream; the lengths in its header, which a pipe cannot know, are not believed.

    Format: RIFF, chunks of four bytes of name and four of length, `fmt ` before `data` (Microsoft, "Multimedia
    Programming Interface and Data Specifications 1.0", 1991).
    """

    def __init__(self) -> None:
        self.rate: int | None = None
        """Known once the header is through."""
        self._head: bytes | None = b""
        self._pcm = Pcm16()

    def push(self, portion: bytes) -> Samples:
        """The samples that are complete. Errors: `ValueError` if it is no such WAV."""
        if self._head is None:
            return self._pcm.push(portion)
        self._head += portion
        start = self._data()
        if start is None:
            return np.zeros(0, np.float32)
        data, self._head = self._head[start:], None
        return self._pcm.push(data)

    def _data(self) -> int | None:
        """Where the samples begin, once that can be told."""
        head = self._head or b""
        if not b"RIFF".startswith(head[:4]) and head[:4] != b"RIFF":
            raise ValueError("it is no WAV")
        at = 12
        while len(head) >= at + 8:
            name, length = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
            if name == b"data":
                if self.rate is None:
                    raise ValueError("it has no format")
                return at + 8
            if name == b"fmt " and len(head) >= at + 24:
                self._read_format(head[at + 8 : at + 24])
            at += 8 + length + length % 2
        return None

    def _read_format(self, fields: bytes) -> None:
        channels, bits = int.from_bytes(fields[2:4], "little"), int.from_bytes(fields[14:16], "little")
        if (channels, bits) != (1, 16):
            raise ValueError(f"it has {channels} channels of {bits} bits; one of 16 is wanted")
        self.rate = int.from_bytes(fields[4:8], "little")
