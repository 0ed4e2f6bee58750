"""The parts a server is made of, as the settings name them, and how they come up."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vita_duplex.config import Config, EngineConfig
from vita_duplex.engine.cascade import Cascade
from vita_duplex.engine.judge import Judge
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.remote import RemoteInstance
from vita_duplex.engine.scripted import ScriptedInstance
from vita_duplex.engine.seams import Instance, PartFailed, Progress, Synthesiser, Vad
from vita_duplex.engine.vita import VitaInstance
from vita_duplex.engine.vllm_text import VllmText
from vita_duplex.models import smollm2
from vita_duplex.tts.hibari import HibariVoice
from vita_duplex.tts.scripted import HummingVoice
from vita_duplex.tts.speech import PacedSpeech
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.moonshine import Moonshine
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import SileroModel

BUNDLED = "smollm2"
"""The model name that means the one from the package."""

VITA_KINDS = ("mixtral_multimodal", "vita-mixtral")
"""`model_type` of the original demo's folder and of the release."""


@dataclass(slots=True)
class Loading:
    """How far the parts have come; read by `/ready` and the page while they load."""

    progress: float = 0.0
    phase: str = "starting"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What all sessions share."""

    config: Config
    pool: Pool
    voice: Synthesiser
    open_vad: Callable[[], Vad]
    vad_executor: Executor

    def listener(self, numbers: Iterator[int]) -> MicrophoneListener:
        return MicrophoneListener(self.open_vad(), self.config.endpoint, self.vad_executor, numbers)

    def speech(self, *, client_pauses: bool) -> PacedSpeech:
        return PacedSpeech(self.voice, self.config.speech, client_pauses=client_pauses)

    def close(self) -> None:
        self.pool.close()
        self.vad_executor.shutdown(wait=False, cancel_futures=True)


def load_parts(config: Config, progress: Progress) -> Parts:
    """Load everything; blocks for as long as the models take. Errors: `PartFailed`."""
    progress(0.0, "loading the ears")
    open_vad: Callable[[], Vad] = LevelVad if config.vad.kind == "level" else SileroModel().open
    progress(0.05, "loading the voice")
    voice_executor = ThreadPoolExecutor(1, thread_name_prefix="voice")
    voice: Synthesiser = HummingVoice() if config.voice.kind == "humming" else HibariVoice(voice_executor)
    pool = Pool(_instances(config, _part(progress, 0.1, 0.85)))
    progress(0.95, "warming up")
    return Parts(config, pool, voice, open_vad, ThreadPoolExecutor(1, thread_name_prefix="vad"))


def prepare(config: EngineConfig, progress: Progress) -> str:
    """Make the language model ready; return its folder or hub name. Errors: `PartFailed`."""
    if config.kind != "text" or config.text.model != BUNDLED:
        progress(1.0, "nothing to prepare")
        return config.text.model
    try:
        return str(smollm2.prepare(config.cache, progress))
    except smollm2.CannotPrepare as reason:
        raise PartFailed("language model", str(reason)) from reason


def model_kind(folder: Path) -> str | None:
    """What the checkpoint in a folder says it is; None if there is none."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(settings.get("model_type")) if isinstance(settings, dict) else None


def is_vita(folder: Path) -> bool:
    return model_kind(folder) in VITA_KINDS


def _instances(config: Config, progress: Progress) -> list[Instance]:
    names = [chr(ord("a") + number) for number in range(config.engine.instances)]
    match config.engine.kind:
        case "scripted":
            return [ScriptedInstance(name, config.engine.scripted) for name in names]
        case "vita":
            return vitas(config.engine, names, progress)
        case "remote":
            remote = config.engine.remote
            return [RemoteInstance(chr(ord("a") + n), address, remote) for n, address in enumerate(remote.urls)]
        case "text":
            return cascades(config.engine, names, progress)


def cascades(config: EngineConfig, names: Sequence[str], progress: Progress) -> list[Instance]:
    """Errors: `PartFailed`."""
    ears, judge, executor = Moonshine(), Judge(), ThreadPoolExecutor(1, thread_name_prefix="ears")
    model = prepare(config, _part(progress, 0, 0.3))
    threads = config.text.threads or _engine_threads(len(names))
    text = config.text.model_copy(
        update={"model": model, "cache": config.text.cache or config.cache, "threads": threads}
    )

    def load(place: int, progress: Progress) -> Instance:
        return Cascade(names[place], ears, judge, VllmText.load(text, progress), executor)

    return _one_by_one(len(names), load, _part(progress, 0.3, 0.7))


def vitas(config: EngineConfig, names: Sequence[str], progress: Progress) -> list[Instance]:
    """Errors: `PartFailed`."""
    threads = config.vita.threads or _engine_threads(len(names))
    vita = config.vita.model_copy(update={"cache": config.vita.cache or config.cache, "threads": threads})

    def load(place: int, progress: Progress) -> Instance:
        return VitaInstance.load(names[place], vita, place, progress)

    return _one_by_one(len(names), load, progress)


def _one_by_one(count: int, load: Callable[[int, Progress], Instance], progress: Progress) -> list[Instance]:
    """So many instances; if one does not start, those before it are stopped."""
    instances: list[Instance] = []
    for place in range(count):
        try:
            instances.append(load(place, _part(progress, place / count, 1 / count)))
        except PartFailed:
            for instance in instances:
                instance.close()
            raise
    return instances


def _engine_threads(engines: int) -> int:
    """CPU threads per engine, so that one core is left to the ears, the voice and the sockets.

    Threads wait for each other several hundred times per token. On two cores with other work on one of
    them, two threads were measured at 1 to 6 tokens/s, one thread at 7 to 14.
    """
    return max(1, (len(os.sched_getaffinity(0)) - 1) // engines)


def _part(progress: Progress, start: float, length: float) -> Progress:
    """Progress of a part of the work, told as progress of the whole."""
    return lambda share, phase: progress(start + length * share, phase)
