"""The ears with text, as the settings name them."""

from concurrent.futures import ThreadPoolExecutor

from vita_duplex.asr.local import LocalEars
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.asr.openai import OpenAiTranscription
from vita_duplex.asr.whisper import Whisper
from vita_duplex.config import EarsConfig
from vita_duplex.engine.seams import Ears, Transcriber


def load_ears(config: EarsConfig, *, needed: bool) -> Ears | None:
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


def _local(model: Transcriber) -> LocalEars:
    return LocalEars(model, ThreadPoolExecutor(1, thread_name_prefix="ears"))
