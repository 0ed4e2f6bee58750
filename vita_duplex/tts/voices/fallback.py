"""A second voice for when the first one fails, so that a reply is heard to its end."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
import soxr

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed, Synthesiser

log = logging.getLogger(__name__)

REST_S = 10.0
"""After a failure the first voice is not asked for so long: nobody waits for its timeout at every sentence."""


class WithFallback:
    """Speaks with `first`, or with `second` at the rate of `first`.

    A piece of which `first` has said something already is not begun again: its failure goes to the caller. One that
    `second` speaks begins with the failure for which `first` rests.
    """

    def __init__(self, first: Synthesiser, second: Synthesiser) -> None:
        self.rate = first.rate
        self._first, self._second = first, second
        self._rests_until = float("-inf")
        self._failure: str | None = None

    async def synthesise(self, text: str) -> AsyncGenerator[Samples | PartFailed]:
        now = asyncio.get_running_loop().time
        if self._failure is None or now() >= self._rests_until:
            begun = False
            try:
                async with aclosing(self._first.synthesise(text)) as voice:
                    async for samples in voice:
                        begun = True
                        yield samples
                return
            except PartFailed as failure:
                self._rests_until, self._failure = now() + REST_S, failure.message
                log.warning("%s; the fallback voice speaks for %.0f s", failure, REST_S)
                if begun:
                    raise
        yield PartFailed("tts", f"{self._failure}; another voice speaks")
        async with aclosing(self._at_my_rate(text)) as voice:
            async for samples in voice:
                yield samples

    async def _at_my_rate(self, text: str) -> AsyncGenerator[Samples | PartFailed]:
        resampler = soxr.ResampleStream(self._second.rate, self.rate, 1, dtype="float32")
        async with aclosing(self._second.synthesise(text)) as voice:
            async for samples in voice:
                assert not isinstance(samples, PartFailed), "it has no fallback of its own"
                converted = resampler.resample_chunk(samples)
                if len(converted):
                    yield converted
        rest: Samples = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if len(rest):
            yield rest
