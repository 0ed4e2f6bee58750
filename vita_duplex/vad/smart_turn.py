"""Smart-Turn v3.2 on plain onnxruntime: does what was said so far sound finished?

The graph comes in the package pipecat-ai 1.14.0 (BSD-2), of which nothing else is used. Its input, as there in
`audio/turn/smart_turn/local_smart_turn_v3.py`: the last 8 s of the utterance, silence before them if it is shorter, as
`input_features` [1, 80, 800], the log-mel spectrogram of Whisper's feature extractor with normalised samples; its
output: the probability that the turn is over.
"""

import asyncio
import hashlib
from concurrent.futures import Executor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.ports import PartFailed
from vita_duplex.vad.log_mel import log_mel

FILE = "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
LONGEST = 8 * INPUT_RATE

WAITING_LIMIT = 2
"""Questions that may wait. More are not put: an answer after the end of the silence it is about helps nobody."""


class SmartTurn:
    """The model. Calls are thread-safe (onnxruntime); each takes some 0.15 s of one core."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the core
        options.log_severity_level = 3  # errors only
        self._session = ort.InferenceSession(str(_path()), options, providers=["CPUExecutionProvider"])

    def completeness(self, samples: Samples) -> float:
        """Probability that the speaker has finished, from an utterance at 16 kHz up to a silence of some 200 ms."""
        (probability,) = self._session.run(None, {"input_features": features(samples)[None]})
        return float(probability.reshape(-1)[0])


class EndOfTurn:
    """Asks the model off the event loop, for all sessions."""

    def __init__(self, model: SmartTurn, executor: Executor) -> None:
        self._model = model
        self._executor = executor
        self._waiting = 0

    def ask(self, samples: Samples) -> "asyncio.Future[float] | None":
        """None: too many ask already."""
        if self._waiting >= WAITING_LIMIT:
            return None
        self._waiting += 1
        answer = asyncio.get_running_loop().run_in_executor(self._executor, self._model.completeness, samples)
        answer.add_done_callback(self._answered)
        return answer

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _answered(self, answer: "asyncio.Future[float]") -> None:
        self._waiting -= 1


def features(samples: Samples) -> NDArray[np.float32]:
    """Whisper's log-mel spectrogram of the last 8 s, shape [80, 800] (`WhisperFeatureExtractor`, `do_normalize`)."""
    samples = samples[-LONGEST:]
    samples = np.pad(samples, (LONGEST - len(samples), 0))
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return log_mel(samples)


def _path() -> Path:
    spec = find_spec("pipecat")  # found, not imported: its import wants its other packages
    if spec is None or not spec.submodule_search_locations:
        raise PartFailed("end of turn", "the package pipecat-ai==1.14.0 is not installed; run `make install`")
    path = Path(spec.submodule_search_locations[0]) / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise PartFailed("end of turn", f"{path} is not the file of pipecat-ai 1.14.0; run `make install`")
    return path
