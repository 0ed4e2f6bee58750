"""The level gate: what is said into a reply, far more quietly than the session's speaker speaks, is somebody else's.

Pure. A level is that of the loudest 96 ms, about a syllable: it does not depend on how long somebody speaks or pauses.
"""

import math
from collections import deque

from vita_duplex.vad.endpoint import Mark

SYLLABLE = 3
"""Windows."""
MEMORY = 3
"""Utterances after which what was learned before counts little."""
UNDECIDED_LIMIT = 16
"""Utterances whose verdict may be awaited. Of more the oldest teaches nothing."""


class LevelGate:
    """Holds back the marks of speech into a reply until it is loud enough; if it never is, there was none."""

    def __init__(self, within_db: float) -> None:
        self.level: float | None = None
        """Of the session's speaker, in dBFS; None until an utterance was accepted: everybody passes."""
        self._within_db = within_db
        self._learned = 0
        self._powers: deque[float] = deque(maxlen=SYLLABLE)  # of the latest windows
        self._loudest = 0.0  # mean power of the current utterance's loudest syllable
        self._over = 0.0  # the same of the utterance before
        self._withheld: list[Mark] = []  # the current utterance's beginning
        self._undecided: dict[int, float] = {}  # levels in dBFS, by utterance

    def push(self, marks: list[Mark], loudness: float, *, replying: bool) -> list[Mark]:
        """Of the next window's marks, and of those held back, the ones that count now. `loudness`: root mean square."""
        self._powers.append(loudness * loudness)
        passed: list[Mark] = []
        for mark in marks:
            if mark.kind == "ended":
                self._over = self._loudest
            if mark.kind == "started":
                self._loudest, self._withheld = 0.0, [mark]
            elif not self._withheld:
                passed.append(mark)
            elif mark.kind == "sustained":
                self._withheld.append(mark)
            elif mark.kind in ("ended", "forgotten"):
                self._withheld = []  # nobody will know of it; its pauses do not matter either
        self._loudest = max(self._loudest, sum(self._powers) / SYLLABLE)
        if self._withheld and (not replying or self._passes):
            passed, self._withheld = [*passed, *self._withheld], []
        return passed

    def ended(self, utterance: int) -> None:
        """What counted and is over now has this number; `note_verdict` says what to make of it."""
        self._undecided[utterance] = _decibels(self._over)
        if len(self._undecided) > UNDECIDED_LIMIT:
            del self._undecided[next(iter(self._undecided))]

    def note_verdict(self, utterance: int, *, accepted: bool) -> None:
        """Learn from what was meant for us."""
        level = self._undecided.pop(utterance, None)
        if level is None or not accepted:
            return
        self._learned = min(self._learned + 1, MEMORY)
        self.level = level if self.level is None else self.level + (level - self.level) / self._learned

    @property
    def _passes(self) -> bool:
        return self.level is None or _decibels(self._loudest) >= self.level - self._within_db


def _decibels(power: float) -> float:
    return 10 * math.log10(power + 1e-10)
