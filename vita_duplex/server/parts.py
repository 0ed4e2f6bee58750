"""The parts a server is made of, as the settings name them, and how they come up."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from vita_duplex.config import Config, EngineConfig
from vita_duplex.engine.cascade import Cascade
from vita_duplex.engine.judge import Judge
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.scripted import ScriptedInstance
from vita_duplex.engine.seams import Instance, PartFailed, Progress, Synthesiser, Vad
from vita_duplex.engine.vllm_text import VllmText
from vita_duplex.models import smollm2
from vita_duplex.server.voices import load_voice
from vita_duplex.tts.seats import Seats
from vita_duplex.tts.speech import PacedSpeech
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.moonshine import Moonshine
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import SileroModel

BUNDLED = "smollm2"
"""The model name that means the one from the package."""


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
    seats: Seats | None
    """Who may use the voice next, if it serves only so many at a time."""
    open_vad: Callable[[], Vad]
    vad_executor: Executor

    def listener(self, numbers: Iterator[int]) -> MicrophoneListener:
        return MicrophoneListener(self.open_vad(), self.config.endpoint, self.vad_executor, numbers)

    def speech(self, *, client_pauses: bool) -> PacedSpeech:
        return PacedSpeech(self.voice, self.config.speech, client_pauses=client_pauses, seats=self.seats)

    def health(self) -> dict[str, bool]:
        """Which parts work, by name."""
        return {"ears": True, "voice": True, **{f"instance {i.name}": i.healthy for i in self.pool.instances}}

    def close(self) -> None:
        self.pool.close()
        self.vad_executor.shutdown(wait=False, cancel_futures=True)


def load_parts(config: Config, progress: Progress) -> Parts:
    """Load everything; blocks for as long as the models take. Errors: `PartFailed`."""
    progress(0.0, "loading the ears")
    open_vad: Callable[[], Vad] = LevelVad if config.vad.kind == "level" else SileroModel().open
    progress(0.05, "loading the voice")
    voice, seats = load_voice(config)
    pool = Pool(_instances(config, _part(progress, 0.1, 0.85)))
    progress(0.95, "warming up")
    return Parts(config, pool, voice, seats, open_vad, ThreadPoolExecutor(1, thread_name_prefix="vad"))


def prepare(config: EngineConfig, progress: Progress) -> str:
    """Make the language model ready; return its folder or hub name. Errors: `PartFailed`."""
    if config.kind != "text" or config.text.model != BUNDLED:
        progress(1.0, "nothing to prepare")
        return config.text.model
    try:
        return str(smollm2.prepare(config.cache, progress))
    except smollm2.CannotPrepare as reason:
        raise PartFailed("language model", str(reason)) from reason


def _instances(config: Config, progress: Progress) -> list[Instance]:
    names = [chr(ord("a") + number) for number in range(config.engine.instances)]
    if config.engine.kind == "scripted":
        return [ScriptedInstance(name, config.engine.scripted) for name in names]
    return _cascades(config.engine, names, progress)


def _cascades(config: EngineConfig, names: list[str], progress: Progress) -> list[Instance]:
    ears, judge, executor = Moonshine(), Judge(), ThreadPoolExecutor(1, thread_name_prefix="ears")
    model = prepare(config, _part(progress, 0, 0.3))
    threads = config.text.threads or _engine_threads(len(names))
    text = config.text.model_copy(
        update={"model": model, "cache": config.text.cache or config.cache, "threads": threads}
    )
    engines: list[VllmText] = []
    for number in range(len(names)):
        done = 0.3 + 0.7 * number / len(names)
        try:
            engines.append(VllmText.load(text, _part(progress, done, 0.7 / len(names))))
        except PartFailed:
            for engine in engines:
                engine.shutdown()
            raise
    return [Cascade(name, ears, judge, engine, executor) for name, engine in zip(names, engines, strict=True)]


def _engine_threads(engines: int) -> int:
    """CPU threads per engine, so that one core is left to the ears, the voice and the sockets.

    Threads wait for each other several hundred times per token. On two cores with other work on one of
    them, two threads were measured at 1 to 6 tokens/s, one thread at 7 to 14.
    """
    return max(1, (len(os.sched_getaffinity(0)) - 1) // engines)


def _part(progress: Progress, start: float, length: float) -> Progress:
    """Progress of a part of the work, told as progress of the whole."""
    return lambda share, phase: progress(start + length * share, phase)
