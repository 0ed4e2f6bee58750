"""Cut a stream of text deltas into pieces that can be spoken. Pure."""

import re

from vita_duplex.engine.full_stops import ends_no_sentence

FIRST_CLAUSE_CHARS = 12
"""The first piece may end at a comma from here on: speech starts early, and "Well," alone is too choppy."""
FIRST_PHRASE_CHARS = 48
"""A first sentence this long without a comma is cut before a conjunction, which is a place to breathe."""
LONGEST_CHARS = 240
"""No piece but a code block is longer; one without any mark is cut at a space here: no voice gets an endless line."""

# A sentence mark counts when a space or the end of a line follows ("3.14" goes on); CJK marks always do.
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n+")
_CLAUSE = re.compile(r"[,;:](?=\s)|\s[–—-](?=\s)|[，；：、]")
_CONJUNCTION = re.compile(r"\s(?=(?:and|but|or|because|which|who|that|so|while|when|where|if|to|with|for)\s)")
_FENCE = "```"  # of a code block, which is one piece however long: nobody wants half of it read out
_SPEAKABLE = re.compile(r"\w")


class Sentences:
    """Collects deltas; gives out whole sentences, and a clause first."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def push(self, delta: str) -> list[str]:
        """Take in a delta; return the pieces that are complete now."""
        self._text += delta
        pieces: list[str] = []
        while (end := self._end()) is not None:
            pieces += self._take(end)
        return pieces

    def finish(self) -> list[str]:
        """Return the tail, also one without punctuation."""
        return [*self.push(""), *self._take(len(self._text))]

    def _take(self, end: int) -> list[str]:
        piece, self._text = self._text[:end].strip(), self._text[end:].lstrip()
        if _SPEAKABLE.search(piece):
            self._first = False
        return [piece] if piece else []

    def _end(self) -> int | None:
        """Where the first piece ends, if that can be told yet."""
        if self._text.startswith(_FENCE):
            closing = self._text.find(_FENCE, len(_FENCE))
            return closing + len(_FENCE) if closing >= 0 else None
        ends = [
            match.end() for match in _SENTENCE.finditer(self._text) if not ends_no_sentence(self._text[: match.end()])
        ]
        if self._first:
            ends += [m.end() for m in _CLAUSE.finditer(self._text) if m.end() >= FIRST_CLAUSE_CHARS]
            ends += [m.end() for m in _CONJUNCTION.finditer(self._text) if m.end() >= FIRST_PHRASE_CHARS]
        if ends and min(ends) <= LONGEST_CHARS:
            return min(ends)
        if len(self._text) > LONGEST_CHARS:
            return self._text.rfind(" ", 0, LONGEST_CHARS) + 1 or LONGEST_CHARS
        return None
