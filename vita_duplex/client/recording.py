"""Recordings: what is said is read from any audio file, what was said and heard is written as one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from vita_duplex.client.errors import TalkError
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.recordings.containers import Unreadable
from vita_duplex.engine.recordings.reader import read

OUTPUT_RATE = 24_000
"""Sample rate of everything the server says."""
LONGEST_S = 600

Pcm = NDArray[np.int16]
"""Mono PCM16, shape [n]."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Something to say."""

    name: str
    samples: Pcm
    """At 16 kHz."""

    @property
    def duration_s(self) -> float:
        return len(self.samples) / INPUT_RATE


def read_recording(path: Path) -> Recording:
    """Read any recording: its loudest channel, at 16 kHz. Errors: `TalkError`."""
    if path.is_dir():
        raise TalkError(f"{path} is a folder, not a recording")
    try:
        samples, rate = read(path.read_bytes(), LONGEST_S)
    except OSError as error:
        raise TalkError(f"cannot read {path}: {error.strerror or error}") from error
    except Unreadable as error:
        raise TalkError(f"{path}: {error}") from error
    if not len(samples):
        raise TalkError(f"{path} is empty")
    return Recording(path.name, to_pcm(soxr.resample(samples, rate, INPUT_RATE)))


def to_pcm(samples: NDArray[np.float32]) -> Pcm:
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)


def write_stereo(tracks: Pcm, path: Path) -> None:
    """Write a session, shape [n, 2] at 24 kHz. Errors: `TalkError`."""
    try:
        with path.open("wb") as raw:
            soundfile.write(raw, tracks, OUTPUT_RATE, subtype="PCM_16", format="WAV")
    except OSError as error:
        raise TalkError(f"cannot write {path}: {error.strerror or error}") from error
