"""The parts a server is made of, as the settings name them, and how they come up."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from vita_duplex.config import Config
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.scripted import ScriptedInstance
from vita_duplex.engine.seams import Instance, Synthesiser, Vad
from vita_duplex.tts.hibari import HibariVoice
from vita_duplex.tts.scripted import HummingVoice
from vita_duplex.tts.speech import PacedSpeech
from vita_duplex.vad.listener import MicrophoneListener
from vita_duplex.vad.scripted import LevelVad
from vita_duplex.vad.silero import SileroModel

Progress = Callable[[float, str], None]
"""Told of a share done in [0, 1] and what is being done."""


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
    voice_executor = ThreadPoolExecutor(1, thread_name_prefix="voice")
    voice: Synthesiser = HummingVoice() if config.voice.kind == "humming" else HibariVoice(voice_executor)
    pool = Pool(_instances(config, lambda share, phase: progress(0.1 + 0.9 * share, phase)))
    progress(1.0, "ready")
    return Parts(config, pool, voice, open_vad, ThreadPoolExecutor(1, thread_name_prefix="vad"))


def _instances(config: Config, progress: Progress) -> list[Instance]:
    names = [chr(ord("a") + number) for number in range(config.engine.instances)]
    return [ScriptedInstance(name, config.engine.scripted) for name in names]
