"""What the ASR models have in common: which audio is worth transcribing, and that it is done off the event loop."""

import asyncio
from concurrent.futures import Executor

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.ports import AsrModel, Transcript

SHORTEST = INPUT_RATE // 10
"""Samples (100 ms) below which there is nothing to hear."""
LONGEST = 30 * INPUT_RATE
"""Samples heard at once, half a minute: what `max_utterance_s` lets through, and the window of Whisper's encoder."""
CUT_BACK = 4 * INPUT_RATE
"""How far before its end (4 s) a part may be cut: people pause for breath every few seconds."""
SILENT = 1e-3
"""Peak (-60 dBFS) below which a recording is silence; models would invent words for it."""

LONGEST_LOOP = 8
"""Tokens of the longest phrase that is looked for when checking whether the decoder goes round in circles."""
ROUNDS = 4
"""So many times the same phrase in a row is a loop, not speech."""


class LocalAsr:
    """Transcribes with a model of this machine, in `executor`; utterances wait there for each other."""

    def __init__(self, model: AsrModel, executor: Executor) -> None:
        self._model = model
        self._executor = executor

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._model.transcribe, samples, language)


def portions(samples: Samples) -> list[Samples]:
    """Cut what is too long where it is quiet, drop what is silent or next to nothing."""
    samples = np.asarray(samples, np.float32).reshape(-1)
    if samples.size < SHORTEST:
        return []
    parts: list[Samples] = []
    while samples.size > LONGEST:
        cut = LONGEST - CUT_BACK + _quietest(samples[LONGEST - CUT_BACK : LONGEST])
        parts.append(samples[:cut])
        samples = samples[cut:]
    return [part for part in (*parts, samples) if part.size and np.abs(part).max() >= SILENT]


def _quietest(samples: Samples) -> int:
    """The middle of the quietest 100 ms."""
    powers = np.add.reduceat(np.square(samples), np.arange(0, samples.size, SHORTEST))
    return int(powers.argmin()) * SHORTEST + SHORTEST // 2


def loops(tokens: list[int]) -> bool:
    """Tell whether the last tokens are one phrase, `ROUNDS` times over."""
    for length in range(1, LONGEST_LOOP + 1):
        tail = tokens[-length * ROUNDS :]
        if len(tail) == length * ROUNDS and tail == tail[:length] * ROUNDS:
            return True
    return False
