"""Training data for the state token, made of recordings: what is meant for the assistant, and what is not.

Overlaps are made as Full-Duplex-Bench v1.5 makes them (talk to others 8 dB below the voice, low-passed, with two
reflections; background 15 dB below, below 3 kHz; https://arxiv.org/abs/2507.23159, section 3). Clips are cut at random
times, so that the verdict is right on what has been said so far. Equal seeds give equal data.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from vita_duplex.client.recording import read_recording
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.train.recipe import RecipeError

Samples = NDArray[np.float32]

OTHERS_DB, BACKGROUND_DB, BACKGROUND_HZ = -8.0, -15.0, 3000.0
OTHERS_HZ = 4000.0
REFLECTIONS = ((0.012, 0.35), (0.027, 0.2))
"""Delay in seconds and gain: two walls, at 2 m and 4.5 m."""
LEAKAGE_DB, LEAKAGE_S = -18.0, 0.12
"""The assistant's own voice in the microphone, and how late."""
VOICE_RMS = 0.06
LEVELS_DB = (-15.0, 6.0)
"""Around the usual level of a voice."""
SHORTEST_S, LONGEST_S = 0.4, 15.0
"""Of what is said in a clip. The server's first glance looks at 0.42 s of speech."""
CUT_SHARE = 0.5
"""Of the clips, those that are cut."""
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".opus"}
SITUATIONS = ("speaking", "after", "idle")


@dataclass(frozen=True, slots=True)
class Sources:
    """Folders of recordings; their files are found in subfolders, too. Only `queries` is needed."""

    queries: Path
    others: Path | None = None
    """Speech that is meant for somebody else."""
    noise: Path | None = None
    backchannels: Path | None = None
    assistant: Path | None = None
    """The assistant's own voice."""
    rooms: Path | None = None
    """Impulse responses."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    files: list[Path]
    make: Callable[["_Mixer", Samples], Samples]
    is_query: bool


def mix(
    sources: Sources, out: Path, count: int, seed: int, answer: str, progress: Callable[[range], Iterable[int]]
) -> Path:
    """Write `count` clips and `items.jsonl`, half of them queries with that answer; returns the latter.

    A clip that is there is kept: an interrupted run goes on.

    Errors: `RecipeError` for a folder without recordings; `TalkError` for one that cannot be read.
    """
    mixer = _Mixer(sources)
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in progress(range(count)):
        rng = np.random.default_rng([seed, number])
        kind, situation = mixer.draw(rng, is_query=number % 2 == 0)
        name = f"{number:06}.wav"
        if not (out / name).exists():
            whole = out / f"{name}.part"
            soundfile.write(whole, mixer.clip(kind, rng), INPUT_RATE, format="WAV")
            whole.rename(out / name)
        said = {"role": "assistant", "content": answer if kind.is_query else "…"}
        said["state"] = "query" if kind.is_query else "noise"
        messages = [{"role": "user", "content": "<audio>"}, said]
        lines.append(json.dumps({"messages": messages, "audios": [name], "situation": situation, "kind": kind.name}))
    path = out / "items.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class _Mixer:
    def __init__(self, sources: Sources) -> None:
        self._queries = recordings(sources.queries)
        self._noise = recordings(sources.noise)
        self._assistant = recordings(sources.assistant)
        self._rooms = [_read(path) for path in recordings(sources.rooms)]
        others, backchannels = recordings(sources.others), recordings(sources.backchannels)
        wanted = [_Kind("query", self._queries, _Mixer._voice, True)]
        wanted += [_Kind("other talk", others, _Mixer._other_talk, False)]
        wanted += [_Kind("background", others, _Mixer._background, False)]
        wanted += [_Kind("backchannel", backchannels, _Mixer._voice, False)]
        wanted += [_Kind("noise", self._noise, _Mixer._voice, False)]
        wanted += [_Kind("own voice", self._assistant, _Mixer._leakage, False)]
        self._kinds = [kind for kind in wanted if kind.files]
        if not any(not kind.is_query for kind in self._kinds):
            raise RecipeError(
                "nothing to reject: give a folder of others, noise, backchannels or the assistant's voice"
            )

    def draw(self, rng: np.random.Generator, *, is_query: bool) -> tuple[_Kind, str]:
        kinds = [kind for kind in self._kinds if kind.is_query is is_query]
        kind = kinds[int(rng.integers(len(kinds)))]
        speaking = kind.name in ("backchannel", "own voice")
        return kind, "speaking" if speaking else SITUATIONS[int(rng.integers(len(SITUATIONS)))]

    def clip(self, kind: _Kind, rng: np.random.Generator) -> Samples:
        self._rng = rng
        voice = _read(self._one(kind.files))
        clip = kind.make(self, _cut(voice, rng))
        if self._noise and rng.random() < 0.5 and kind.name != "noise":
            clip = _add(clip, _read(self._one(self._noise)), VOICE_RMS * 10 ** (rng.uniform(-30, -10) / 20))
        edges = (round(rng.uniform(0.1, 0.4) * INPUT_RATE), round(rng.uniform(0.05, 0.5) * INPUT_RATE))
        # Half of the microphones: behind a noise gate silence is exact, and its features are others.
        hiss = rng.choice([0.0, 1e-4]) * rng.standard_normal(len(clip) + sum(edges))
        return np.asarray(np.clip(np.pad(clip, edges) + hiss, -1, 1), np.float32)

    def _one(self, paths: Sequence[Path]) -> Path:
        return paths[int(self._rng.integers(len(paths)))]

    def _voice(self, samples: Samples) -> Samples:
        return _at(self._in_a_room(samples), self._rng.uniform(*LEVELS_DB))

    def _other_talk(self, samples: Samples) -> Samples:
        reflected = samples.copy()
        for delay_s, gain in REFLECTIONS:
            late = round(delay_s * INPUT_RATE)
            reflected[late:] += gain * samples[:-late]
        return _at(_low_pass(reflected, OTHERS_HZ), OTHERS_DB + self._rng.uniform(-3, 3))

    def _background(self, samples: Samples) -> Samples:
        return _at(_low_pass(self._in_a_room(samples), BACKGROUND_HZ), BACKGROUND_DB + self._rng.uniform(-3, 3))

    def _leakage(self, samples: Samples) -> Samples:
        return np.pad(_at(self._in_a_room(samples), LEAKAGE_DB), (round(LEAKAGE_S * INPUT_RATE), 0))

    def _in_a_room(self, samples: Samples) -> Samples:
        if not self._rooms or self._rng.random() < 0.3:
            return samples
        room = self._rooms[int(self._rng.integers(len(self._rooms)))]
        return np.asarray(np.convolve(samples, room / np.abs(room).max())[: len(samples)], np.float32)


def recordings(folder: Path | None) -> list[Path]:
    """Errors: `RecipeError` for a folder that has none."""
    if folder is None:
        return []
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise RecipeError(f"{folder} has no recordings ({', '.join(sorted(SUFFIXES))})")
    return found


def _read(path: Path) -> Samples:
    return np.asarray(read_recording(path).samples / 2**15, np.float32)


def _cut(samples: Samples, rng: np.random.Generator) -> Samples:
    """Half of the clips end at a random time, none is longer than the longest."""
    shortest, longest = round(SHORTEST_S * INPUT_RATE), round(LONGEST_S * INPUT_RATE)
    whole = min(len(samples), longest)
    if whole > shortest and rng.random() < CUT_SHARE:
        return samples[: int(rng.integers(shortest, whole))]
    return samples[:whole]


def _at(samples: Samples, level_db: float) -> Samples:
    """At so many decibels from the usual level of a voice."""
    rms = float(np.sqrt(np.mean(samples**2))) or 1.0
    return np.asarray(samples * (VOICE_RMS / rms * 10 ** (level_db / 20)), np.float32)


def _low_pass(samples: Samples, hertz: float) -> Samples:
    return np.asarray(sosfilt(butter(4, hertz, fs=INPUT_RATE, output="sos"), samples), np.float32)


def _add(samples: Samples, noise: Samples, rms: float) -> Samples:
    level = float(np.sqrt(np.mean(noise**2))) or 1.0
    return np.asarray(samples + np.resize(noise, len(samples)) * (rms / level), np.float32)
