"""Sounds for tests: human clips from `tests/data`, a synthetic voice, and what is no speech, made by code.

Everything is mono float32 at 16 kHz and the same on every run.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from tests.support.paths import DATA

RATE = 16_000
Samples = NDArray[np.float32]


def clip(name: str) -> Samples:
    """Read a human recording; `tests/data/README.md` says what it is."""
    samples, rate = soundfile.read(DATA / f"{name}.flac", dtype="float32")
    assert rate == RATE
    return np.asarray(samples, np.float32)


@cache
def _voice() -> Callable[..., NDArray[np.float32]]:
    from hibari import Hibari

    voice: Callable[..., NDArray[np.float32]] = Hibari()
    return voice


def speech(text: str, speed: float = 1.0, seed: int = 1) -> Samples:
    """Say a text with the default voice; 0.3 s of silence before and 0.5 s after it, as an endpoint cuts."""
    samples = soxr.resample(_voice()(text, speed=speed, seed=seed), 24_000, RATE)
    return np.pad(np.asarray(samples, np.float32), (round(0.3 * RATE), round(0.5 * RATE)))


def mix(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Add a noise (repeated as needed) at a ratio of powers, kept below full scale."""
    noise = np.resize(noise, samples.size)
    gain = np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    mixed = samples + gain * noise
    return np.asarray(mixed / max(1.0, np.abs(mixed).max()), np.float32)


def silence(seconds: float = 2.0) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def white(seconds: float = 2.0, level: float = 0.05, seed: int = 2) -> Samples:
    """White noise with the given standard deviation."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return np.asarray(np.clip(level * noise, -1, 1), np.float32)


def pink(seconds: float = 2.0, level: float = 0.05, seed: int = 3) -> Samples:
    """Noise with 3 dB less per octave, as of wind or a fan."""
    n = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, n)
    return np.asarray(np.clip(level * noise / noise.std(), -1, 1), np.float32)


def tone(hertz: float = 440.0, seconds: float = 2.0, level: float = 0.2) -> Samples:
    return np.asarray(level * np.sin(2 * np.pi * hertz * _time(seconds)), np.float32)


def hum(seconds: float = 2.0, level: float = 0.1) -> Samples:
    """Mains hum: 50 Hz and its odd harmonics."""
    return np.asarray(sum(tone(50.0 * k, seconds, level / k) for k in (1, 3, 5, 7)), np.float32)


def click(seconds: float = 1.0, at: float = 0.3) -> Samples:
    """One mouse click: 3 ms of decaying noise."""
    samples = silence(seconds)
    burst = white(0.003, 0.5) * np.exp(-np.arange(48) / 12)
    samples[round(at * RATE) :][: burst.size] = burst
    return samples


def knocks(seconds: float = 1.5, seed: int = 4) -> Samples:
    """Three knocks on wood: short, low, damped."""
    samples = silence(seconds)
    knock = 0.6 * np.sin(2 * np.pi * 180 * _time(0.08)) * np.exp(-_time(0.08) / 0.015)
    for at in (0.2, 0.45, 0.7):
        samples[round(at * RATE) :][: knock.size] += knock
    return np.asarray(samples + white(seconds, 0.001, seed), np.float32)


def cough(seed: int = 6) -> Samples:
    """Two coughs: a burst of wide noise, then a weaker voiced one. No recording of one was found."""
    rng, samples = np.random.default_rng(seed), silence(1.6)
    for at, level in ((0.2, 0.5), (0.75, 0.35)):
        t = _time(0.32)
        burst = soxr.resample(rng.standard_normal(t.size // 2), RATE // 2, RATE)[: t.size] * np.exp(-t / 0.05)
        voiced = np.sin(2 * np.pi * (220 - 200 * t) * t) * np.exp(-(((t - 0.16) / 0.06) ** 2))
        start = round(at * RATE)
        samples[start : start + t.size] += level * (burst + 0.4 * voiced)
    return np.asarray(np.clip(samples, -1, 1), np.float32)


def throat(seed: int = 7) -> Samples:
    """Clearing one's throat: 0.4 s of rough, low buzz under noise."""
    t, samples = _time(0.4), silence(1.4)
    buzz = np.sign(np.sin(2 * np.pi * 95 * t + 3 * np.sin(2 * np.pi * 23 * t)))
    noise = np.random.default_rng(seed).standard_normal(t.size)
    samples[3200 : 3200 + t.size] = 0.15 * (buzz + 0.7 * noise) * np.sin(np.pi * t / 0.4)
    return samples


def chirp(seconds: float = 1.0, low: float = 300.0, high: float = 3000.0, level: float = 0.2) -> Samples:
    """A rising tone, as a telephone or a kettle makes it."""
    phase = low * _time(seconds) + (high - low) / (2 * seconds) * _time(seconds) ** 2
    return np.asarray(level * np.sin(2 * np.pi * phase), np.float32)


def ring(seconds: float = 3.0, level: float = 0.2) -> Samples:
    """An old telephone: two tones, twenty strokes a second, one second on, one off."""
    t = _time(seconds)
    on = (t % 2 < 1) * (0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 20 * t)))
    return np.asarray(on * (tone(1300, seconds, level) + tone(1500, seconds, level)), np.float32)


def music(bars: int = 2, level: float = 0.2, seed: int = 5) -> Samples:
    """Four chords to the bar with a bass and a drum, at 120 beats a minute."""
    beat = 0.5
    chords = [(60, 64, 67), (57, 60, 64), (65, 69, 72), (67, 71, 74)]  # C a F G, as MIDI notes
    samples = silence(bars * len(chords) * beat)
    rng = np.random.default_rng(seed)
    for number in range(bars * len(chords)):
        notes = chords[number % len(chords)]
        t = _time(beat)
        sound = sum(_note(note, t) for note in (*notes, notes[0] - 24))
        snare = rng.standard_normal(t.size) * np.exp(-t / 0.02)
        kick = 3 * np.sin(2 * np.pi * 70 * t) * np.exp(-t / 0.05)
        start = round(number * beat * RATE)
        samples[start : start + t.size] = sound + snare + kick
    return np.asarray(level * samples / np.abs(samples).max(), np.float32)


def _note(midi: int, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """A plucked note: harmonics that fade, the higher the faster."""
    hertz = 440 * 2 ** ((midi - 69) / 12)
    return np.asarray(sum(np.sin(2 * np.pi * k * hertz * t) / k * np.exp(-3 * k * t) for k in range(1, 6)), np.float64)


def _time(seconds: float) -> NDArray[np.float64]:
    return np.arange(round(seconds * RATE)) / RATE
