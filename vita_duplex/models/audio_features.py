"""The audio front end of VITA: a waveform becomes log-mel features, and their number decides the number of tokens.

Kaldi's filter bank as torchaudio computes it (`compliance.kaldi.fbank`: povey window, snip edges, power spectrum,
natural log, no energy), then the global mean and variance with which the encoder was trained.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Self

import numpy as np
import numpy.typing as npt

from vita_duplex.models.audio_resample import RATE, Samples, resample, resampled_length

Features = npt.NDArray[np.float32]  # [frames, 80]

BINS = 80
FRAME = 400  # 25 ms
SHIFT = 160  # 10 ms
FFT = 512
PRE_EMPHASIS = 0.97
LOWEST_HZ = 20.0
FULL_SCALE = 32768.0  # Kaldi counts in steps of 16 bit
LOUDEST = 1e9  # beyond, the power spectrum leaves single precision
FLOOR = 1.1920929e-07  # single precision epsilon: the log of silence is -15.94
BLOCK = 512  # frames computed at a time: they stay in the cache

MIN_FRAMES = 7
MIN_SAMPLES = FRAME + (MIN_FRAMES - 1) * SHIFT
"""1360 samples, 85 ms: what gives one token."""
MAX_FRAMES = 20_006
"""200 s: the encoder's 5000 positions, four frames each and the six that the first one spans beyond."""
MIN_RATE, MAX_RATE = 1_000, 768_000


class AudioError(ValueError):
    """Audio that cannot become features."""


class AudioTooShort(AudioError):
    """Less than one token of audio."""

    def __init__(self, samples: int) -> None:
        super().__init__(f"audio of {samples} samples at 16 kHz; the shortest that gives a token has {MIN_SAMPLES}")
        self.samples = samples


class AudioTooLong(AudioError):
    """More audio than the encoder has positions for."""

    def __init__(self, samples: int) -> None:
        super().__init__(f"audio of {samples / RATE:.1f} s; the encoder takes {MAX_FRAMES * SHIFT / RATE:.0f} s")
        self.samples = samples


def frame_count(samples: int) -> int:
    """Frames of a clip at 16 kHz: none but whole ones."""
    return 0 if samples < FRAME else 1 + (samples - FRAME) // SHIFT


def token_count(frames: int) -> int:
    """Tokens of a clip in the prompt: 12.5 a second."""
    return (frames + 1) // 8 if frames >= MIN_FRAMES else 0


def clip_tokens(samples: int, rate: int = RATE) -> int:
    """Tokens of a clip at any rate, without computing anything of it; refuses what `AudioFeatures` refuses."""
    samples = resampled_length(samples, _checked_rate(rate))
    _check_length(samples)
    return token_count(frame_count(samples))


@dataclass(frozen=True, slots=True, eq=False)  # arrays compare element by element
class Cmvn:
    """Global mean and inverse standard deviation of each bin."""

    mean: Features
    inverse_std: Features

    @classmethod
    @cache
    def from_package(cls) -> Self:
        """The statistics of the release. Those among a checkpoint's tensors are rounded to bfloat16."""
        return cls.of_settings(json.loads((files("vita_duplex.models") / "cmvn.json").read_text("utf-8")))

    @classmethod
    def of_settings(cls, settings: Mapping[str, object]) -> Self:
        """As a checkpoint's `feature_extractor/preprocessor_config.json` has them."""
        return cls(_bins(settings, "cmvn_means"), _bins(settings, "cmvn_istds"))


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """Turns audio into the features that the encoder takes: 80 for every 10 ms.

    `dither` is the standard deviation of noise added to every frame, in steps of 16 bit. The original used 1.0 and so
    never gave the same numbers twice. We add none by default: equal audio gives equal features, a cached prefix stays
    valid. In audible sound the noise moves a feature by 0.02 (standard deviation, at worst). In exact digital silence
    it decides: without it all bins are log(FLOOR) = -15.94, with 1.0 they are about -2.7 (lowest) to 8.5 (highest);
    normalised, that is a difference of several standard deviations, and the encoder has only seen the latter.
    Microphones do not give digital silence. For input that has it, dither 1.0 is the original's behaviour, and with
    one `seed` it is repeatable here: a clip gets the same noise every time.
    """

    cmvn: Cmvn = field(default_factory=Cmvn.from_package)
    dither: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.dither, int | float) or not 0 <= self.dither <= FULL_SCALE:
            raise AudioError(f"dither must be a number from 0 to {FULL_SCALE:.0f}, not {self.dither!r}")

    def extract(self, audio: npt.ArrayLike, rate: int = RATE) -> Features:
        """Features of a whole clip, [samples] or [channels, samples], of which channel 0 counts."""
        return self.normalise(self.fbank(self.samples(audio, rate)))

    @staticmethod
    def samples(audio: npt.ArrayLike, rate: int = RATE) -> Samples:
        """A whole clip as `extract` hears it: channel 0 at 16 kHz.

        Errors: `AudioError`, of which `AudioTooShort` and `AudioTooLong` before anything is computed.
        """
        samples = _channel(audio)
        _check_length(resampled_length(len(samples), _checked_rate(rate)))
        return samples if rate == RATE else resample(samples, rate)

    def fbank(self, samples: Samples) -> Features:
        """Log-mel energies before normalisation, [frames, 80], of samples at 16 kHz in [-1, 1]."""
        frames = np.empty((frame_count(len(samples)), BINS), np.float32)
        if len(frames) == 0:
            return frames
        noise = np.random.default_rng(self.seed)
        cut = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::SHIFT]
        for start in range(0, len(frames), BLOCK):
            frames[start : start + BLOCK] = self._log_mel(cut[start : start + BLOCK] * np.float32(FULL_SCALE), noise)
        return frames

    def normalise(self, frames: Features) -> Features:
        normal: Features = (frames - self.cmvn.mean) * self.cmvn.inverse_std
        return normal

    def _log_mel(self, cut: Features, noise: np.random.Generator) -> Features:
        if self.dither:
            cut = cut + np.float32(self.dither) * noise.standard_normal(cut.shape, np.float32)
        cut = cut - cut.mean(axis=1, keepdims=True)
        before = np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)
        spectrum = np.fft.rfft((cut - np.float32(PRE_EMPHASIS) * before) * _window(), FFT)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        logs: Features = np.log(np.maximum(power @ _mel(), np.float32(FLOOR)))
        return logs


def _channel(audio: npt.ArrayLike) -> Samples:
    """Channel 0 as floats."""
    array = np.asarray(audio)
    if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"audio must be floats, [samples] or [channels, samples], not {array.dtype} {array.shape}")
    if array.ndim == 2 and len(array) == 0:
        raise AudioError("audio without a channel")
    samples: Samples = np.ascontiguousarray(array if array.ndim == 1 else array[0], np.float32)
    if samples.size and not np.abs(samples).max() < LOUDEST:  # also where one is not a number
        raise AudioError("audio with samples that are no numbers, or far from [-1, 1]")
    return samples


def _checked_rate(rate: int) -> int:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"sample rate {rate}; {MIN_RATE} to {MAX_RATE} Hz are understood")
    return rate


def _check_length(samples: int) -> None:
    if samples < MIN_SAMPLES:
        raise AudioTooShort(samples)
    if frame_count(samples) > MAX_FRAMES:
        raise AudioTooLong(samples)


def _bins(settings: Mapping[str, object], name: str) -> Features:
    values = settings.get(name)
    if not isinstance(values, Sequence) or len(values) != BINS:
        raise AudioError(f"{name} must be {BINS} numbers")
    return np.array(values, np.float32)


@cache
def _window() -> Features:
    """Povey's: a Hann window to the power of 0.85, which reaches zero less steeply."""
    hann: Features = np.hanning(FRAME) ** 0.85
    return hann.astype(np.float32)


@cache
def _mel() -> Features:
    """Triangles on Kaldi's mel scale from 20 Hz to 8 kHz, [FFT / 2 + 1, 80]; the last bin, 8 kHz, has no part."""
    edges = np.linspace(_to_mel(np.array(LOWEST_HZ)), _to_mel(np.array(RATE / 2)), BINS + 2)
    mel = _to_mel(np.linspace(0, RATE / 2, FFT // 2 + 1))[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    triangles: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    triangles[-1] = 0
    return triangles.astype(np.float32)


def _to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(hz / 700.0)
