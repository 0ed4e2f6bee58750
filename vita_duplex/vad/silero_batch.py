"""Silero's network as matrix products of numpy, for windows of many sessions at once.

onnxruntime convolves each session apart, one to four columns at a time; here those of all sessions are one product.
The layers and the weights are those of the graph, out of the same file (the package's .safetensors has others): a
Fourier transform as a convolution, four convolutions of three, a recurrent cell, one output. The probabilities are the
same but for rounding, up to 4e-6.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from onnx import load_model_from_string, numpy_helper

Floats = NDArray[np.float32]

FFT, HOP, BINS, HIDDEN = 256, 128, 129, 128


class SileroBatch:
    """Thread-safe; keeps nothing between calls."""

    def __init__(self, model: bytes) -> None:
        """`model`: the file of the graph."""
        weights = load_model_from_string(model).graph.initializer  # beginning with "model.": those for 16 kHz
        stored = {weight.name: numpy_helper.to_array(weight) for weight in weights}
        self._fourier = stored["model.stft.forward_basis_buffer"][:, 0].T.copy()  # [256, real and imaginary part]
        convolutions = [f"model.encoder.{layer}.reparam_conv" for layer in range(4)]
        taps = [stored[f"{name}.weight"].transpose(2, 1, 0) for name in convolutions]  # [3, in, out]
        # The third hears two columns and the padding before them, the fourth one between two of padding.
        used = [taps[0], taps[1], taps[2][1:], taps[3][1:2]]
        self._convolutions = [tap.reshape(-1, tap.shape[2]) for tap in used]
        self._biases = [stored[f"{name}.bias"] for name in convolutions]
        # sigmoid(x) = (1 + tanh(x / 2)) / 2: of the gates (in, forget, cell, out) all but the third.
        halves = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), HIDDEN)
        cell = "model.decoder.rnn"
        both = np.concatenate([stored[f"{cell}.weight_ih"], stored[f"{cell}.weight_hh"]], axis=1)
        self._cell, self._cell_bias = both.T * halves, (stored[f"{cell}.bias_ih"] + stored[f"{cell}.bias_hh"]) * halves
        self._output = stored["model.decoder.decoder.2.weight"].reshape(HIDDEN)
        self._output_bias = stored["model.decoder.decoder.2.bias"]

    def run(self, windows: Floats, hidden: Floats, cell: Floats) -> tuple[Floats, Floats, Floats]:
        """[n, 64 + 512] windows with what came before them, [n, 128] twice; probabilities [n] and the new vectors."""
        n = len(windows)
        mirrored = np.concatenate([windows, windows[:, -2:-66:-1]], axis=1)
        parts = _columns(mirrored[:, :, None], 4, FFT, HOP) @ self._fourier
        parts *= parts
        frames = np.zeros((n, 6, BINS), np.float32)  # with a column of padding on both sides
        np.sqrt((parts[:, :BINS] + parts[:, BINS:]).reshape(n, 4, BINS), out=frames[:, 1:5])
        first = np.zeros((n, 5, HIDDEN), np.float32)
        first[:, 1:] = self._layer(0, _columns(frames, 4, 3, 1)).reshape(n, 4, HIDDEN)
        second = self._layer(1, _columns(first, 2, 3, 2)).reshape(n, HIDDEN)  # [n, two columns of 64]
        heard = self._layer(3, self._layer(2, second))
        gates = np.concatenate([heard, hidden], axis=1) @ self._cell
        gates += self._cell_bias
        np.tanh(gates, out=gates)
        enter, keep, new, leave = gates.reshape(n, 4, HIDDEN).swapaxes(0, 1)
        cell = (0.5 + 0.5 * keep) * cell + (0.5 + 0.5 * enter) * new
        hidden = (0.5 + 0.5 * leave) * np.tanh(cell)
        said = np.maximum(hidden, 0) @ self._output + self._output_bias
        return 0.5 + 0.5 * np.tanh(0.5 * said), hidden, cell

    def _layer(self, number: int, columns: Floats) -> Floats:
        found: Floats = columns @ self._convolutions[number]
        found += self._biases[number]
        np.maximum(found, 0, out=found)
        return found


def _columns(frames: Floats, count: int, width: int, step: int) -> Floats:
    """Of each of [n, T, c] so many stretches of so many frames: [n * count, width * c]."""
    n, _, channels = frames.shape
    row, frame, _ = frames.strides
    shape, strides = (n, count, width * channels), (row, step * frame, frames.itemsize)
    return as_strided(frames, shape, strides, writeable=False).reshape(n * count, width * channels)
