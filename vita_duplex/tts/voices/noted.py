"""A voice whose uses are noted, so that nobody has to try whether it works."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.health import Standing
from vita_duplex.engine.ports import PartFailed, Synthesiser


class NotedVoice:
    """Speaks as the voice does; a text that is spoken or not is a use."""

    def __init__(self, voice: Synthesiser, standing: Standing) -> None:
        self.rate = voice.rate
        self._voice, self._standing = voice, standing

    async def synthesise(self, text: str) -> AsyncGenerator[Samples | PartFailed]:
        now = asyncio.get_running_loop().time
        try:
            async with aclosing(self._voice.synthesise(text)) as pieces:
                async for piece in pieces:
                    if not isinstance(piece, PartFailed):
                        self._standing.note(True, now())
                    yield piece
        except PartFailed:
            self._standing.note(False, now())
            raise
