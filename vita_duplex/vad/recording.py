"""The utterances of a whole recording, found as a session finds those of its microphone."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.endpoint import WINDOW, Endpoint, EndpointConfig
from vita_duplex.vad.listener import BATCH


@dataclass(frozen=True, slots=True)
class Stretch:
    """One utterance of a recording: where its speech begins and ends, in samples at 16 kHz, and its audio."""

    start: int
    end: int
    samples: Samples


async def stretches(samples: Samples, detector: Detector, config: EndpointConfig) -> AsyncGenerator[Stretch]:
    """The utterances of `samples` (16 kHz), one after the other; no hint lengthens the silence that ends them.

    Errors: `PartFailed` when the detector fails.
    """
    endpoint, state = Endpoint(config), detector.start()
    silence = config.silence_ms * INPUT_RATE // 1000 + 2 * WINDOW  # ends the last one
    windows = np.pad(samples, (0, silence + -(len(samples) + silence) % WINDOW)).reshape(-1, WINDOW)
    for first in range(0, len(windows), BATCH):
        batch = windows[first : first + BATCH]
        probabilities, state = await detector.probabilities(batch, state)
        loudness = np.sqrt(np.einsum("ij,ij->i", batch, batch) / WINDOW)
        for probability, loud in zip(probabilities, loudness, strict=True):
            for mark in endpoint.push(float(probability), float(loud)):
                if mark.kind == "ended":
                    end = min(mark.speech_end, len(samples))
                    yield Stretch(mark.speech_start, end, samples[mark.begin : mark.keep_until])
