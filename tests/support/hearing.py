"""Words of a text and of a recording, to be compared."""

import re

import numpy as np
import soxr

from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.audio import Samples


def words(text: str) -> str:
    return re.sub(r"[^a-z0-9' ]+", " ", text.lower()).strip()


def heard_words(samples: Samples, rate: int) -> str:
    """What the ASR makes of a reply, piece by piece as it would of a user."""
    at_16k = soxr.resample(samples, rate, 16_000).astype(np.float32)
    asr = Moonshine()
    parts = np.array_split(at_16k, max(1, len(at_16k) // (8 * 16_000)))
    return words(" ".join(asr.transcribe(part).text for part in parts))
