"""The default voice: hibari, an English voice of 8 MB whose weights come in its package (Apache-2.0)."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from typing import Any

import numpy as np

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed


class HibariVoice:
    """Speaks in `executor`, one piece of text at a time, whoever asks."""

    rate = 24_000

    def __init__(self, executor: Executor) -> None:
        """Load the weights (about 1 s). Errors: `PartFailed` if the package is missing or damaged."""
        try:
            from hibari import Hibari

            self._voice: Any = Hibari(threads=1)
            self._voice("Ready.")  # its dictionaries load with the first sentence
        except (ImportError, OSError, ValueError) as error:
            raise PartFailed("tts", f"hibari-tts does not load ({error}); run `make install`") from error
        self._executor = executor

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        loop = asyncio.get_running_loop()
        sentences = iter(self._voice.stream(text))
        while True:
            samples = await loop.run_in_executor(self._executor, self._next, sentences)
            if samples is None:
                return
            yield samples

    def _next(self, sentences: Any) -> Samples | None:
        try:
            samples = next(sentences, None)
        except Exception as error:  # a foreign package, odd text: this sentence fails, not the server
            raise PartFailed("tts", f"hibari cannot say this: {type(error).__name__}") from error
        return None if samples is None else np.asarray(samples, np.float32)
