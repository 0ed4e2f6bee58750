"""The ASR that the settings name."""

from concurrent.futures import ThreadPoolExecutor

from vita_duplex.asr.local import LocalAsr
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.asr.openai import OpenAiTranscription
from vita_duplex.asr.whisper import Whisper
from vita_duplex.config import AsrConfig
from vita_duplex.engine.ports import Asr, AsrModel


def load_asr(config: AsrConfig, *, needed: bool) -> Asr | None:
    """Blocks for seconds. `needed`: a model reads only; without it and without a wish there are none.

    Errors: `PartFailed`.
    """
    match config.kind or ("moonshine" if needed else None):
        case "moonshine":
            return _local(Moonshine())
        case "whisper":
            return _local(Whisper(config.whisper))
        case "openai":
            return OpenAiTranscription(config.openai)
        case None:
            return None


def _local(model: AsrModel) -> LocalAsr:
    return LocalAsr(model, ThreadPoolExecutor(1, thread_name_prefix="asr"))
