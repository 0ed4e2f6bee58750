"""English ASR: Moonshine tiny-en, its two ONNX graphs driven with plain onnxruntime.

The weights and the vocabulary come from the package `moonshine-voice` 0.0.73 (MIT). Its own library is not
used: it brings a second copy of onnxruntime, has its own idea of where speech starts, and keeps the
log-probabilities of the tokens to itself, which the verdict needs.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vita_duplex.asr.local import loops, portions
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.ports import PartFailed, Transcript

FILES = {
    "encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
    "decoder_model_merged.ort": "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
    "tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
}
"""sha256 of the files of `moonshine-voice` 0.0.73, assets/tiny-en."""

PADDED = INPUT_RATE // 2
"""Shorter utterances are filled up with silence to 0.5 s: the model hears little in less."""
TOKENS_PER_SECOND = 6.5
"""Upper bound of the authors' own inference code for English; a decoder that loops writes far more."""
START, END = 1, 2
FIRST_SPECIAL = 32_000
LAYERS, HEADS, HEAD_SIZE = 6, 8, 36
CACHES = [
    f"{layer}.{side}.{kind}" for layer in range(LAYERS) for side in ("decoder", "encoder") for kind in ("key", "value")
]


class Moonshine:
    """Hear English words. Stateless between calls, so several threads may share one."""

    def __init__(self, folder: Path | None = None, threads: int = 1) -> None:
        folder = folder or _find_assets()
        for name, digest in FILES.items():
            _check(folder / name, digest)
        self._encoder = _session(folder / "encoder_model.ort", threads)
        self._decoder = _session(folder / "decoder_model_merged.ort", threads)
        self._pieces = read_pieces((folder / "tokenizer.bin").read_bytes())

    def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        """Hear one utterance, mono at 16 kHz, as English. About 40 ms of work per second of speech on one core.

        Errors: `PartFailed` when the graphs do not run (out of memory).
        """
        tokens: list[int] = []
        total = 0.0
        try:
            for part in portions(samples):
                part = np.pad(part, (0, max(0, PADDED - part.size)))
                for token, log_probability in self._decode(self._encode(part), part.size):
                    tokens.append(token)
                    total += log_probability
        except Exception as error:  # onnxruntime has a class per status and none in common
            raise PartFailed("asr", f"{type(error).__name__} while hearing an utterance") from error
        text = to_text(tokens, self._pieces)
        return Transcript(text, total / len(tokens) if text else 0.0)

    def _encode(self, samples: Samples) -> NDArray[np.float32]:
        mask = np.ones((1, samples.size), np.int64)
        (frames,) = self._encoder.run(None, {"input_values": samples[None], "attention_mask": mask})
        return np.asarray(frames, np.float32)  # [1, T, 288]

    def _decode(self, frames: NDArray[np.float32], n_samples: int) -> Iterator[tuple[int, float]]:
        """Yield the most probable tokens one by one with their log-probabilities."""
        limit = 4 + math.ceil(n_samples / INPUT_RATE * TOKENS_PER_SECOND)
        # The graph takes every 384th sample of the mask; nothing is padded here, so one column is broadcast.
        mask = np.ones((1, 1), np.int64)
        empty = np.zeros((1, HEADS, 0, HEAD_SIZE), np.float32)
        cache = dict.fromkeys(CACHES, empty)
        tokens = [START]
        for step in range(limit):
            feeds: dict[str, NDArray[np.generic]] = {
                **{f"past_key_values.{name}": value for name, value in cache.items()},
                "encoder_attention_mask": mask,
                "encoder_hidden_states": frames,
                "input_ids": np.array([tokens[-1:]], np.int64),
                "use_cache_branch": np.array([step > 0]),
            }
            logits, *present = self._decoder.run(None, feeds)
            for name, value in zip(CACHES, present, strict=True):
                # The encoder's keys are computed once; the cached branch returns a dummy for them.
                if step == 0 or ".decoder." in name:
                    cache[name] = value
            scores = logits[0, -1]
            token = int(scores.argmax())
            if token == END:
                return
            tokens.append(token)
            if loops(tokens):
                return
            # log softmax at its maximum
            yield token, -float(np.log(np.exp(scores - scores[token]).sum()))


def read_pieces(data: bytes) -> list[bytes]:
    """Read the vocabulary: for each token its length (one byte, or two from 128 on) and its bytes."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        length = data[at]
        at += 1
        if length >= 128:
            length += 128 * (data[at] - 1)
            at += 1
        pieces.append(data[at : at + length])
        at += length
    return pieces


def to_text(tokens: Sequence[int], pieces: Sequence[bytes]) -> str:
    """Join tokens to text; pieces are bytes of UTF-8, with U+2581 for a space (SentencePiece)."""
    data = b"".join(pieces[token] for token in tokens if END < token < FIRST_SPECIAL)
    return data.decode("utf-8", "ignore").replace("\u2581", " ").strip()


def _find_assets() -> Path:
    spec = find_spec("moonshine_voice")  # found, not imported: the import would load its library
    if spec is None or not spec.submodule_search_locations:
        raise PartFailed("asr", "the package moonshine-voice==0.0.73 is not installed")
    return Path(spec.submodule_search_locations[0]) / "assets" / "tiny-en"


def _check(path: Path, digest: str) -> None:
    if not path.is_file():
        raise PartFailed("asr", f"{path.name} is missing: install moonshine-voice==0.0.73")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise PartFailed("asr", f"{path.name} is not the one of moonshine-voice 0.0.73 (sha256 {found})")


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the core
    options.log_severity_level = 3  # errors only
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
