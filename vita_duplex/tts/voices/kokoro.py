"""Kokoro-82M on plain onnxruntime: English and Chinese voices (Apache-2.0), from a folder on this machine.

The folder holds `model.onnx`, `vocab.json` and `voices/*.bin`; `tools/make_kokoro.py` makes it from registry packages.
The model takes `tokens` [1, 1 + n + 1] int64 (0, ids, 0), `style` [1, 256] float32 (row n of the voice's table of 510)
and `speed` [1] float32, and gives 24 kHz audio (onnx-community/Kokoro-82M-v1.0-ONNX, README).
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.section import Section
from vita_duplex.tts.text.maths import Language
from vita_duplex.tts.text.normalise import language_of

LONGEST_TOKENS = 510
"""The model's context is 512, of which the zeros at both ends take two."""
FIRST_TOKENS = 60
"""A piece's first part ends at a mark after so many, if it has one: some 4 s of speech, so that sound comes sooner."""
ENGLISH, MANDARIN = "ab", "z"
"""First letters of the voices' names: American and British English, Mandarin; others are of other languages."""
THREADS = 2
_CHINESE = re.compile(r"[㐀-鿿，。！？；：、“”（）《》…—\s]*[㐀-鿿][㐀-鿿，。！？；：、“”（）《》…—\s]*")


class KokoroConfig(Section):
    """Where Kokoro lies, and which of its voices speak."""

    folder: Path | None = None
    """Folder with the model and its voices. None is `kokoro` in `engine.cache`."""
    voice: str = "af_heart"
    """Voice for English."""
    chinese: str = "zf_xiaobei"
    """Voice for Chinese."""


class KokoroVoice:
    """Speaks in `executor`, one part of a piece at a time, each piece with the voice of its language."""

    rate = 24_000

    def __init__(self, folder: Path, config: KokoroConfig, executor: Executor) -> None:
        """Load the weights (about 2 s). Errors: `PartFailed` if a file, a package or a voice is missing."""
        try:
            import onnxruntime as ort
            from hibari.g2p import G2P
            from misaki.zh import ZHG2P

            self._vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
            options.log_severity_level = 3
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the cores
            self._options = ort.RunOptions
            self._session: Any = ort.InferenceSession(
                folder / "model.onnx", options, providers=["CPUExecutionProvider"]
            )
        except ImportError as error:
            raise PartFailed("tts", f"Kokoro needs a package ({error}); install the extra [kokoro]") from error
        except Exception as error:  # onnxruntime has a class per status and none in common
            raise PartFailed(
                "tts", f"no Kokoro in {folder} ({type(error).__name__}); see tools/make_kokoro.py"
            ) from error
        self._folder, self._name = folder, config.voice
        self._styles: dict[Language, Any] = {
            "en": _style(folder, config.voice),
            "zh": _style(folder, config.chinese),
        }
        self._english, self._chinese = G2P(), ZHG2P()
        self._speed = np.ones(1, np.float32)
        self._executor = executor
        self._run(self._ids("Ready. 好。")[0], "en")  # dictionaries load with the first words

    def others(self) -> dict[str, "KokoroVoice"]:
        """The folder's further voices, by name: each for its own language, the other is spoken as by this one."""
        return {name: self._speaking_as(name) for name in readable(voices(self._folder)) if name != self._name}

    def _speaking_as(self, name: str) -> "KokoroVoice":
        other = copy(self)
        other._name = name
        other._styles = {**self._styles, "zh" if name[0] == MANDARIN else "en": _style(self._folder, name)}
        return other

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        loop, language = asyncio.get_running_loop(), language_of(text)
        for ids in await loop.run_in_executor(self._executor, self._ids, text):
            run = self._options()
            try:
                samples = await loop.run_in_executor(self._executor, self._run, ids, language, run)
            finally:
                run.terminate = True  # a cancelled run would go on for seconds, and others wait for this voice
            yield samples

    def _ids(self, text: str) -> list[list[int]]:
        """The token ids of each part of a piece."""
        try:
            return [[self._vocabulary[one] for one in part] for part in parts(self._phonemes(text))]
        except Exception as error:  # foreign packages, odd text: this piece fails, not the server
            raise PartFailed("tts", f"Kokoro cannot read this: {type(error).__name__}") from error

    def _phonemes(self, text: str) -> str:
        said, at = [], 0
        for match in _CHINESE.finditer(text):
            said += [self._english(text[at : match.start()]), self._chinese(match[0].strip())[0]]
            at = match.end()
        phonemes = " ".join(one for one in (*said, self._english(text[at:])) if one)
        return "".join(one for one in phonemes if one in self._vocabulary).strip()

    def _run(self, ids: list[int], language: Language, options: Any = None) -> Samples:
        feed = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self._styles[language][min(len(ids), LONGEST_TOKENS - 1)],
            "speed": self._speed,
        }
        try:
            (audio,) = self._session.run(None, feed, options)
        except Exception as error:  # onnxruntime has a class per status and none in common
            raise PartFailed("tts", f"Kokoro cannot say this: {type(error).__name__}") from error
        return np.asarray(audio, np.float32).reshape(-1)


def parts(phonemes: str) -> list[str]:
    """Cut at marks or spaces: a short first part, then as long ones as the model takes."""
    found: list[str] = []
    while phonemes:
        mark = re.compile(r"[,.;:!?…—]\s").search(phonemes, FIRST_TOKENS) if not found else None
        end = mark.end() if mark and mark.end() <= LONGEST_TOKENS else len(phonemes)
        if end > LONGEST_TOKENS:
            marks = [m.end() for m in re.finditer(r"[,.;:!?…—]\s", phonemes[:LONGEST_TOKENS])]
            end = marks[-1] if marks else phonemes.rfind(" ", 0, LONGEST_TOKENS) + 1 or LONGEST_TOKENS
        found.append(phonemes[:end].strip())
        phonemes = phonemes[end:].strip()
    return [part for part in found if part]


def voices(folder: Path) -> list[str]:
    """The voices in the folder: the first letter is the language."""
    return sorted(path.stem for path in (folder / "voices").glob("*.bin"))


def readable(names: list[str]) -> list[str]:
    """Those whose language can be read out here."""
    return [name for name in names if name[0] in (*ENGLISH, MANDARIN)]


def _style(folder: Path, voice: str) -> NDArray[np.float32]:
    """A voice's table, [510, 1, 256]. Errors: `PartFailed` if there is none."""
    if voice not in voices(folder):
        raise PartFailed("tts", f"Kokoro has no voice {voice!r}; there are {', '.join(voices(folder)) or 'none'}")
    try:  # mapped, not read: there are fifty
        return np.memmap(folder / "voices" / f"{voice}.bin", np.float32, "r", shape=(LONGEST_TOKENS, 1, 256))
    except (OSError, ValueError) as error:
        raise PartFailed("tts", f"Kokoro's voice {voice!r} is damaged ({type(error).__name__})") from error
