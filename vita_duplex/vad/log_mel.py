"""Whisper's log-mel spectrogram, which the end-of-turn model takes as well.

As `log_mel_spectrogram` in openai/whisper, `audio.py`: frames of 25 ms every 10 ms, 80 of Slaney's mel bands, decibels
above the loudest less 80, brought to about [-1, 1].
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vita_duplex.engine.audio import INPUT_RATE, Samples

FFT, HOP, MELS = 400, 160, 80


def log_mel(samples: Samples) -> NDArray[np.float32]:
    """[n] at 16 kHz to [80, n / 160]; n at least 400 and a multiple of 160."""
    frames = sliding_window_view(np.pad(samples, FFT // 2, mode="reflect"), FFT)[::HOP][:-1]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FFT + 1)[:-1], axis=1)))  # [n / 160, 201]
    mel = np.log10(np.maximum(power @ _MEL_FILTERS, 1e-10)).T
    return np.asarray((np.maximum(mel, mel.max() - 8) + 4) / 4, np.float32)


def _mel_filters() -> NDArray[np.float64]:
    """Triangles between 82 points that are equally far from each other on Slaney's mel scale (linear up to 1 kHz,
    logarithmic above), each of area one; shape [201, 80]."""
    top = 15 + 27 * np.log(8000 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, MELS + 2)
    points = np.where(mels < 15, 200 * mels / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
    hertz = np.linspace(0, INPUT_RATE / 2, FFT // 2 + 1)[:, None]
    left, middle, right = points[:-2], points[1:-1], points[2:]
    rising, falling = (hertz - left) / (middle - left), (right - hertz) / (right - middle)
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return np.asarray(triangles, np.float64)


_MEL_FILTERS = _mel_filters()
