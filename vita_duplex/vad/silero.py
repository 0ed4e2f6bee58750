"""Silero VAD v6 without torch: on plain onnxruntime, and for many windows at once in numpy.

Inputs and outputs of the model as in silero-vad 6.2.3, `utils_vad.py` (class OnnxWrapper):
`input` [n, 64 + 512] float32 — the last 64 samples of the previous window come first, without them the
probabilities are wrong —, `state` [2, n, 128], `sr` int64; outputs probability [n, 1] and the new state.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.ports import PartFailed, Probabilities, VadState, Windows
from vita_duplex.vad.silero_batch import SileroBatch

CONTEXT = 64
HIDDEN = 128

TARGET = 0.02
"""Root mean square (−34 dBFS) up to which the quiet are amplified: below it the model misses ever more speech."""
LARGEST_GAIN = 4.0
"""12 dB. With more of it hums and rings that begin suddenly were taken for speech at more levels."""
FADE = 0.5 ** (0.032 / 10)
"""Per window: who was loud is expected to be as loud again, after ten seconds half as loud."""
TOGETHER = 8
"""Windows from which numpy is faster than onnxruntime: from there on the less the more there are, 140 µs singly to
24 µs a window at 64 (`tools/bench_ears.py`)."""
FILE = "data/silero_vad_op18_ifless.onnx"
SHA256 = "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"


class Silero:
    """The detector; its weights are loaded once. Calls are thread-safe (onnxruntime)."""

    def __init__(self, *, amplify: bool = False) -> None:
        """`amplify`: make the quiet louder before the model hears them."""
        self._largest_gain = LARGEST_GAIN if amplify else 1.0
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns of unused initialisers in Silero's own file
        # Spinning threads would burn a core between windows.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = _model()
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._batch = SileroBatch(model)
        self._rate = np.array(INPUT_RATE, np.int64)

    def start(self) -> VadState:
        return np.zeros(2 * HIDDEN + CONTEXT + 1, np.float32)

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        """The state of a session, shape [321]: the model's two vectors, the end of its last window, how loud it is."""
        n = len(windows)
        hidden = states[:, : 2 * HIDDEN].reshape(n, 2, HIDDEN).swapaxes(0, 1)
        level = np.maximum(np.sqrt(np.mean(np.square(windows), axis=1)), FADE * states[:, -1])
        gain = np.clip(TARGET / np.maximum(level, 1e-9), 1, self._largest_gain).astype(np.float32)
        heard = np.concatenate([states[:, 2 * HIDDEN : -1], windows], axis=1) * gain[:, None]
        if n < TOGETHER:
            inputs = {"input": heard, "state": np.ascontiguousarray(hidden), "sr": self._rate}
            found, vectors = self._session.run(None, inputs)
            probabilities = found[:, 0]
        else:
            probabilities, *vectors = self._batch.run(heard, *hidden)
        return probabilities, np.concatenate([*vectors, windows[:, -CONTEXT:], level[:, None]], axis=1)


def _model() -> bytes:
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise PartFailed("vad", "the package silero-vad is not installed; run `make install`")
    path = Path(spec.origin).parent / FILE
    model = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(model).hexdigest() != SHA256:
        raise PartFailed("vad", f"{path} is not the file of silero-vad 6.2.3; run `make install`")
    return model
