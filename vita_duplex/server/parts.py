"""The parts a server is made of, as the settings name them, and how they come up."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vita_duplex.config import Config, EngineConfig, VadConfig
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.health import Standing
from vita_duplex.engine.instances.openai_text import OpenAiText
from vita_duplex.engine.instances.remote import RemoteInstance
from vita_duplex.engine.instances.scripted import ScriptedInstance
from vita_duplex.engine.instances.vita import VitaInstance
from vita_duplex.engine.instances.vllm_text import VllmText
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import Asr, Instance, PartFailed, Progress, Synthesiser
from vita_duplex.models import smollm2
from vita_duplex.models.naming import NoModel, check_whole, locate
from vita_duplex.server.asr import load_asr
from vita_duplex.server.observe.session_logs import SessionLogs
from vita_duplex.server.voice_names import VoiceNames
from vita_duplex.server.voices import CLOUD, load_voices
from vita_duplex.tts.speech import PacedSpeech
from vita_duplex.tts.text.normaliser import Normaliser
from vita_duplex.tts.voices.noted import NotedVoice
from vita_duplex.tts.voices.queue import VoiceQueue
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.echo import Canceller, EchoGuard
from vita_duplex.vad.level_gate import LevelGate
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import Silero
from vita_duplex.vad.smart_turn import EndOfTurn, SmartTurn


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
    pools: Mapping[str, Pool]
    """The instances of each model, by the name that clients know; the first is the default."""
    voices: Mapping[str, Synthesiser]
    """The voices by name, all of one rate; the first is the default."""
    voice_queue: VoiceQueue | None
    """Who may use the voice next, if it serves only so many at a time."""
    normaliser: Normaliser
    detector: Detector
    session_logs: SessionLogs | None = None
    turn_judge: EndOfTurn | None = None
    echo_executor: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="echo guard"))
    """Where echo is taken out of the microphones of sessions that want it. Its thread begins with the first one."""
    asr: Asr | None = None
    """ASR for clients of models that hear by themselves; None gives those no words."""
    transcriber: Asr | None = None
    """ASR for recordings, the text models' where there is no other."""
    tts: Standing = field(default_factory=Standing)
    """Whether the voices work."""

    @property
    def pool(self) -> Pool:
        """The default model's."""
        return next(iter(self.pools.values()))

    @property
    def voice(self) -> Synthesiser:
        """The default."""
        return next(iter(self.voices.values()))

    def chosen(self, model: str | None) -> str | None:
        """The model that a client means; None if there is none of that name.

        With one model any name will do: stock clients always name one of OpenAI's.
        """
        if model in self.pools:
            return model
        return None if model and len(self.pools) > 1 else next(iter(self.pools))

    def can_call(self, model: str) -> bool:
        """Whether a model can call tools."""
        return model in self.pools and all(instance.calls for instance in self.pools[model].instances)

    def listener(self, numbers: Iterator[int], *, client_pauses: bool) -> MicrophoneListener:
        guard = self.echo_guard(self.config.vad.echo.guard, client_pauses=client_pauses)
        gate = LevelGate(self.config.vad.level_gate_db) if self.config.vad.level_gate_db is not None else None
        return MicrophoneListener(self.detector, self.config.vad.endpoint, numbers, self.turn_judge, guard, gate)

    def echo_guard(self, wanted: bool | Literal["auto"], *, client_pauses: bool) -> EchoGuard | None:
        """None: none is wanted, or `auto` finds no canceller. Errors: `PartFailed` if that is missing."""
        if not wanted:
            return None
        try:
            return EchoGuard(self.voice.rate, self.echo_executor, client_pauses=client_pauses, auto=wanted == "auto")
        except PartFailed:
            if wanted == "auto":
                return None
            raise

    @property
    def voice_names(self) -> VoiceNames:
        return VoiceNames(tuple(self.voices))

    def voice_of(self, name: str | None) -> Synthesiser:
        """One of `voice_names`; None: the default."""
        return NotedVoice(self.voice if name is None else self.voices.get(name, self.voice), self.tts)

    def speech(self, voice: str | None, *, client_pauses: bool) -> PacedSpeech:
        """`voice` is one of `voice_names`; None: the default."""
        return PacedSpeech(
            self.voice_of(voice),
            self.config.tts,
            client_pauses=client_pauses,
            voice_queue=self.voice_queue,
            normalise=self.normaliser,
        )

    @property
    def instances(self) -> list[Instance]:
        """Of every model."""
        return [instance for pool in self.pools.values() for instance in pool.instances]

    async def warm(self) -> None:
        if self.config.tts.kind != "humming":  # which has no words
            await self.normaliser.warm()
        for pool in self.pools.values():
            await pool.warm()

    @property
    def ready(self) -> bool:
        """Whether a conversation with every model is possible: one instance takes both roles."""
        return all(any(instance.healthy for instance in pool.instances) for pool in self.pools.values())

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()
        self.detector.close()
        self.normaliser.close()
        if self.turn_judge:
            self.turn_judge.close()
        self.echo_executor.shutdown(wait=False, cancel_futures=True)
        if self.session_logs:
            self.session_logs.close()


def load_parts(config: Config, progress: Progress) -> Parts:
    """Load everything; blocks for as long as the models take. Errors: `PartFailed`."""
    session_logs = SessionLogs(config.server.session_logs) if config.server.session_logs else None
    progress(0.0, "loading the VAD")
    detector, turn_judge = _load_vad(config.vad)
    progress(0.02, "loading the ASR")
    asr = load_asr(config.asr, needed=config.reads_only)
    progress(0.05, "loading the voice")
    voices, voice_queue = load_voices(config)
    pools = _load_pools(config.engines, asr, _part(progress, 0.1, 0.85))
    progress(0.95, "warming up")
    return Parts(
        config,
        pools,
        voices,
        voice_queue,
        Normaliser(ThreadPoolExecutor(1, thread_name_prefix="normaliser")),
        detector,
        session_logs,
        turn_judge,
        asr=asr if config.asr.kind else None,  # else it is the text models' alone
        transcriber=asr,
        tts=Standing(local=config.tts.kind not in CLOUD),
    )


def _load_vad(config: VadConfig) -> tuple[Detector, EndOfTurn | None]:
    """Errors: `PartFailed`."""
    vad = LevelVad() if config.kind == "level" else Silero()
    turn_judge = EndOfTurn(SmartTurn(), ThreadPoolExecutor(1, "end of turn")) if config.turn_end else None
    if config.echo.guard is True:
        Canceller()  # told now if its package is missing
    return Detector(vad, ThreadPoolExecutor(1, thread_name_prefix="vad")), turn_judge


def prepare(config: EngineConfig, progress: Progress) -> str:
    """Make the language model ready; return its folder or hub name. Errors: `PartFailed`."""
    if config.kind != "text" or config.text.model != smollm2.BUNDLED:
        progress(1.0, "nothing to prepare")
        return located("language model", config.text.model) if config.kind == "text" else config.text.model
    try:
        return str(smollm2.prepare(config.cache, progress))
    except smollm2.CannotPrepare as reason:
        raise PartFailed("language model", str(reason)) from reason


def located(part: str, model: str) -> str:
    """The whole folder of a model, or its hub id where it is not on this machine. Errors: `PartFailed`."""
    try:
        found = locate(model)
        if isinstance(found, Path):
            check_whole(found)
    except NoModel as reason:
        raise PartFailed(part, str(reason)) from reason
    return str(found)


def _load_pools(models: Mapping[str, EngineConfig], asr: Asr | None, progress: Progress) -> dict[str, Pool]:
    """The instances of each model; if one does not start, those before it are stopped. Errors: `PartFailed`."""
    engines = sum(engine.count for engine in models.values())
    pools: dict[str, Pool] = {}
    gpus = 0
    for number, (model, engine) in enumerate(models.items()):
        names = [
            f"{model} {chr(ord('a') + place)}" if number else chr(ord("a") + place) for place in range(engine.count)
        ]
        part = _part(progress, number / len(models), 1 / len(models))
        try:
            pools[model] = Pool(instances(engine, names, asr, part, engines=engines, first_gpu=gpus))
        except PartFailed:
            for pool in pools.values():
                pool.close()
            raise
        gpus += engine.gpus
    return pools


def instances(
    engine: EngineConfig, names: Sequence[str], asr: Asr | None, progress: Progress, *, engines: int,
    first_gpu: int = 0,
) -> list[Instance]:  # fmt: skip
    """As the settings of one model have them. `engines`: how many share this machine; `first_gpu`: how many GPUs
    other models have taken. Errors: `PartFailed`."""
    match engine.kind:
        case "scripted":
            return [ScriptedInstance(name, engine.scripted) for name in names]
        case "vita":
            return vitas(engine, names, progress, engines=engines, first_gpu=first_gpu)
        case "remote":
            addressed = zip(names, engine.remote.urls, strict=True)
            return [RemoteInstance(name, address, engine.remote) for name, address in addressed]
        case "openai":
            assert asr is not None
            return [Cascade(name, asr, Judge(), OpenAiText(engine.openai)) for name in names]
        case "text":
            assert asr is not None
            return cascades(engine, names, asr, progress, engines=engines)


def cascades(
    config: EngineConfig, names: Sequence[str], asr: Asr, progress: Progress, *, engines: int
) -> list[Instance]:
    """`engines`: how many share this machine. Errors: `PartFailed`."""
    judge = Judge()
    model = prepare(config, _part(progress, 0, 0.3))
    threads = config.text.threads or _engine_threads(engines)
    text = config.text.model_copy(
        update={"model": model, "cache": config.text.cache or config.cache, "threads": threads}
    )

    def load(place: int, progress: Progress) -> Instance:
        return Cascade(names[place], asr, judge, VllmText.load(text, progress))

    return _one_by_one(len(names), load, _part(progress, 0.3, 0.7))


def vitas(
    config: EngineConfig, names: Sequence[str], progress: Progress, *, engines: int, first_gpu: int = 0
) -> list[Instance]:
    """`engines` as for `cascades`; `first_gpu`: how many GPUs other models have taken. Errors: `PartFailed`."""
    from vita_duplex.models.checkpoint import check_folder  # imports torch, as the engines will

    threads = config.vita.threads or _engine_threads(engines)
    vita = config.vita.model_copy(update={"cache": config.vita.cache or config.cache, "threads": threads})
    folder = Path(located("VITA model", vita.model))
    if not folder.is_dir():
        raise PartFailed("VITA model", f"{folder} is not on this machine; run: hf download {folder}")
    try:
        check_folder(folder)
    except (ValueError, OSError) as reason:
        raise PartFailed("VITA model", f"{folder}: {reason}") from reason
    vita = vita.model_copy(update={"model": str(folder)})

    def load(place: int, progress: Progress) -> Instance:
        return VitaInstance.load(names[place], vita, first_gpu + place * vita.tensor_parallel_size, progress)

    return _one_by_one(len(names), load, progress)


def _one_by_one(count: int, load: Callable[[int, Progress], Instance], progress: Progress) -> list[Instance]:
    """So many instances; if one does not start, those before it are stopped."""
    loaded: list[Instance] = []
    for place in range(count):
        try:
            loaded.append(load(place, _part(progress, place / count, 1 / count)))
        except PartFailed:
            for instance in loaded:
                instance.close()
            raise
    return loaded


def _engine_threads(engines: int) -> int:
    """CPU threads per engine, so that one core is left to VAD, ASR, TTS and the sockets.

    Threads wait for each other several hundred times per token. On two cores with other work on one of
    them, two threads were measured at 1 to 6 tokens/s, one thread at 7 to 14.
    """
    return max(1, (len(os.sched_getaffinity(0)) - 1) // engines)


def _part(progress: Progress, start: float, length: float) -> Progress:
    """Progress of a part of the work, told as progress of the whole."""
    return lambda share, phase: progress(start + length * share, phase)
