"""What the user may correct: the last utterances that were not taken for them, and the last that were. Pure.

The sound of what was rejected is kept here until something else is rejected or `KEPT_S` are over, and nowhere else.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vita_duplex.engine.messages import Situation, Utterance, Verdict
from vita_duplex.engine.notices import Corrected

KEPT_S = 20.0
"""Seconds after a verdict in which it may be corrected."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """The utterances of one verdict."""

    numbers: tuple[int, ...]
    p1: float | None
    situation: Situation
    until: float
    turn: int = 0
    """That answers them."""
    utterance: Utterance | None = None
    """Those that were rejected, as one."""

    def is_about(self, number: int, now: float) -> bool:
        return number in self.numbers and now < self.until

    def corrected(self, *, meant: bool) -> Corrected:
        return Corrected(self.numbers, meant, self.p1, self.situation.reply)


class SecondThoughts:
    """Of one session; times are those of `now`, in seconds."""

    def __init__(self) -> None:
        self._rejected: _Decided | None = None
        self._accepted: _Decided | None = None

    @property
    def deadline(self) -> float | None:
        """When `forget` wants to be called."""
        return self._rejected.until if self._rejected else None

    def forget(self, now: float) -> None:
        """Drop the sound that nobody asked for in time."""
        if self._rejected and now >= self._rejected.until:
            self._rejected = None

    def reject(
        self, utterances: Collection[Utterance], verdict: Verdict | None, situation: Situation, now: float
    ) -> None:
        """These were not meant for us."""
        sounds = [one.samples for one in utterances if one.samples is not None]
        numbers = tuple(one.number for one in utterances)
        whole = Utterance(numbers[-1], np.concatenate(sounds)) if sounds else None
        p1 = verdict.p1 if verdict else None
        self._rejected = _Decided(numbers, p1, situation, now + KEPT_S, utterance=whole) if whole else None

    def accept(self, numbers: tuple[int, ...], verdict: Verdict, situation: Situation, turn: int, now: float) -> None:
        """These were, and `turn` answers them."""
        self._accepted = _Decided(numbers, verdict.p1, situation, now + KEPT_S, turn)

    def can_claim(self, number: int, now: float) -> bool:
        """Whether `claim` has something to give."""
        return self._rejected is not None and self._rejected.is_about(number, now)

    def claim(self, number: int, now: float) -> tuple[Utterance, Corrected] | None:
        """An utterance that was rejected was meant for us after all; it is given once."""
        if self._rejected is None or not self._rejected.is_about(number, now):
            return None
        decided, self._rejected = self._rejected, None
        assert decided.utterance is not None
        return decided.utterance, decided.corrected(meant=True)

    def disclaim(self, number: int, now: float) -> tuple[tuple[int, ...], int, Corrected] | None:
        """One that was accepted was not: its numbers, and the turn that answers them."""
        if self._accepted is None or not self._accepted.is_about(number, now):
            return None
        decided, self._accepted = self._accepted, None
        return decided.numbers, decided.turn, decided.corrected(meant=False)
