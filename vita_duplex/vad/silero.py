"""Silero VAD v6 on plain onnxruntime, without torch.

Inputs and outputs of the model as in silero-vad 6.2.3, `utils_vad.py` (class OnnxWrapper):
`input` [1, 64 + 512] float32 — the last 64 samples of the previous window come first, without them the
probabilities are wrong —, `state` [2, 1, 128], `sr` int64; outputs probability [1, 1] and the new state.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort

from vita_duplex.engine.seams import INPUT_RATE, PartFailed, Samples
from vita_duplex.vad.endpoint import WINDOW

CONTEXT = 64
FILE = "data/silero_vad_op18_ifless.onnx"
SHA256 = "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"


class SileroModel:
    """The weights, loaded once and shared by all sessions. Calls are thread-safe (onnxruntime)."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns of unused initialisers in Silero's own file
        # Spinning threads would burn a core between windows.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(_path()), options, providers=["CPUExecutionProvider"])
        self.rate = np.array(INPUT_RATE, np.int64)

    def open(self) -> "Silero":
        return Silero(self)


class Silero:
    """One session's voice activity detector."""

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, CONTEXT + WINDOW), np.float32)

    def probability(self, window: Samples) -> float:
        """Probability of speech in the next 512 samples at 16 kHz."""
        self._input[0, :CONTEXT] = self._input[0, -CONTEXT:]
        self._input[0, CONTEXT:] = window
        inputs = {"input": self._input, "state": self._state, "sr": self._model.rate}
        probability, self._state = self._model.session.run(None, inputs)
        return float(probability[0, 0])


def _path() -> Path:
    spec = find_spec("silero_vad")
    if spec is None or spec.origin is None:
        raise PartFailed("ears", "the package silero-vad is not installed; run `make install`")
    path = Path(spec.origin).parent / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise PartFailed("ears", f"{path} is not the file of silero-vad 6.2.3; run `make install`")
    return path
