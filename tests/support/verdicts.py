"""Labelled events with their context, `tests/data/verdicts.txt`: what was said into which situation, and to whom.

The `check` part was written before the first rule and is not looked at while rules or weights are made. Its voices
(flite's rms, espeak-ng) speak nothing in the `rules` part, whose voices are hibari and flite's slt and awb.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tests.support import sounds
from tests.support.paths import DATA
from vita_duplex.engine.messages import Situation

TABLE = DATA / "verdicts.txt"
OTHERS = ("backchannel", "other")
VOICES = {"rules": ("hibari", "slt", "awb"), "check": ("rms", "espeak-ng")}
LEVELS_DBFS = (-20.0, -26.0, -32.0)
ROOM_S = 0.25
"""Reverberation time of the room in which every third event is said."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing said. `what` is its text, or `@name` of a human clip of `tests/data`."""

    part: str
    language: str
    situation: Situation
    group: str
    what: str
    voice: str
    level_dbfs: float
    reverberant: bool

    @property
    def is_query(self) -> bool:
        return self.group not in OTHERS

    def samples(self) -> sounds.Samples:
        """The event at 16 kHz, as an endpoint cuts it: 0.3 s before the speech and 0.5 s after it."""
        if self.what.startswith("@"):
            said = sounds.clip(self.what[1:])
        elif self.voice == "hibari":
            said = sounds.speech(self.what)[4800:-8000]
        else:
            said = _spoken(self.voice, self.what)
        if self.reverberant:
            said = _in_room(said)
        loud = np.sqrt(np.mean(said**2)) or 1.0
        said = np.clip(said * (10 ** (self.level_dbfs / 20) / loud), -1, 1)
        return np.pad(np.asarray(said, np.float32), (4800, 8000))


def read(part: str, language: str = "en") -> list[Event]:
    """The events of a part and language, in the order of the table; human clips count as English."""
    return [event for event in _events() if (event.part, event.language) == (part, language)]


def _events() -> Iterator[Event]:
    number = 0
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        where, said_into, assistant, group, texts = (field.strip() for field in line.split("|"))
        part, _, more = where.partition(":")
        kind, _, seconds = said_into.partition(" ")
        situation = Situation(kind, float(seconds or 0), assistant)  # type: ignore[arg-type]
        for text in texts.split("/"):
            voice = VOICES[part][number % len(VOICES[part])]
            level, reverberant = LEVELS_DBFS[number % 3], number % 3 == 1
            language = "zh" if more == "zh" else "en"
            yield Event(part, language, situation, group, text.strip(), voice, level, reverberant)
            number += 1


@cache
def _spoken(voice: str, text: str) -> sounds.Samples:
    """Said by a voice of flite, or by espeak-ng; both are Debian packages."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "said.wav"
        flite = ["flite", "-voice", voice, "-t", text, "-o", str(file)]
        espeak = ["espeak-ng", "-v", "en-gb", "-s", "150", "-w", str(file), text]
        subprocess.run(espeak if voice == "espeak-ng" else flite, check=True, capture_output=True)
        samples, rate = soundfile.read(file, dtype="float32")
    samples = soxr.resample(samples, rate, sounds.RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return np.asarray(samples[loud[0] : loud[-1] + 1], np.float32)


def _in_room(samples: sounds.Samples) -> sounds.Samples:
    """With the reverberation of a living room: decaying noise behind the direct sound."""
    n = round(ROOM_S * sounds.RATE)
    tail = np.random.default_rng(8).standard_normal(n) * 10 ** (-3 * np.arange(n) / n) * 0.02
    tail[0] = 1.0
    return np.asarray(np.convolve(samples, tail)[: samples.size + n], np.float32)
