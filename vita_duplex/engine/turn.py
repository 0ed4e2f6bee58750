"""One turn, as the shell keeps it while it is judged or spoken."""

import asyncio
from dataclasses import dataclass

from vita_duplex.engine.ledger import Ledger
from vita_duplex.engine.messages import Utterance, Verdict
from vita_duplex.engine.ports import Speech
from vita_duplex.engine.requests import Request


@dataclass(slots=True)
class Turn:
    number: int
    utterances: tuple[Utterance, ...]
    """What it answers."""
    request: Request
    speech: Speech
    ledger: Ledger
    outputs: frozenset[str] = frozenset()
    """Of calls: those that it answers."""
    calls_told: int = 0
    """Calls of its request that the client knows."""
    answering: asyncio.Task[None] | None = None
    speaking: asyncio.Task[None] | None = None
    heard: int = 0
    """Samples of it that were heard, once it is over."""

    @property
    def typed(self) -> bool:
        """Whether the newest of its utterances was typed: then it was accepted without a verdict."""
        return self.utterances[-1].text is not None

    @property
    def verdict(self) -> Verdict:
        """Of its utterances; what was typed needs none."""
        words = (utterance.text for utterance in self.utterances)
        return self.request.verdict or Verdict(0.0, 0.0, 1.0, tuple(text for text in words if text is not None))

    @property
    def words(self) -> tuple[str | None, ...]:
        """Of each of its utterances, as far as they are known."""
        return self.verdict.transcripts or tuple(utterance.text for utterance in self.utterances)
