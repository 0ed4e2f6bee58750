"""Cut a stream of text deltas into pieces that can be spoken. Pure."""

import re

from vita_duplex.engine.full_stops import ends_no_sentence

FIRST_CLAUSE_WORDS = 3
"""The first piece may end at a comma from here on: speech starts early, and "Well," alone is too choppy. Each Chinese
character counts as a word."""
FIRST_PHRASE_CHARS = 48
"""A first sentence this long without a comma is cut before a conjunction, which is a place to breathe."""
SILENCE_S = 0.3
"""When no text came for so long, what is there is spoken: the words of a first piece, or a sentence that seems over."""
LONGEST_CHARS = 240
LONGEST_WIDE_CHARS = 80
"""No piece but a code block is longer, so that no voice gets an endless line: 15 to 20 s of English or of Chinese."""

# A sentence mark counts when a space or the end of a line follows ("3.14" goes on); CJK marks always do.
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n+")
_CLAUSE = re.compile(r"[,;:](?=\s)|\s[–—-](?=\s)|[，；：、]")
_BREATH = re.compile(rf"{_SENTENCE.pattern}|{_CLAUSE.pattern}")
_CONJUNCTION = re.compile(r"\s(?=(?:and|but|or|because|which|who|that|so|while|when|where|if|to|with|for)\s)")
_FENCE = "```"  # of a code block, which is one piece however long: nobody wants half of it read out
_SPEAKABLE = re.compile(r"\w")
_WORD = re.compile(r"[㐀-鿿]|[^\W㐀-鿿]+")
_WORD_END = re.compile(r"\s|[㐀-鿿，；：、](?![a-zA-Z0-9])")
_SEEMS_OVER = re.compile(r"(?:[^\d\s.][.]|[!?…。！？])+[\"'”’)\]」』）]*\s*$")


class Sentences:
    """Collects deltas; gives out whole sentences, and a clause first. Times are seconds."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        """When to call `tick`, if nothing comes before."""
        self._text = ""
        self._first = True

    def push(self, delta: str, now: float) -> list[str]:
        """Take in a delta; return the pieces that are complete now."""
        self._text += delta
        pieces = self._complete()
        self.deadline = now + SILENCE_S if self._stalled_end() else None
        return pieces

    def tick(self, now: float) -> list[str]:
        """Return the piece that need not wait for more text any longer, if there is one."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        return self._take(self._stalled_end())

    def finish(self) -> list[str]:
        """Return the tail, also one without punctuation."""
        self.deadline = None
        return [*self._complete(), *self._take(len(self._text))]

    def _complete(self) -> list[str]:
        pieces: list[str] = []
        while (end := self._end()) is not None:
            pieces += self._take(end)
        return pieces

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
            ends += [m.end() for m in _CLAUSE.finditer(self._text) if self._words(m.end()) >= FIRST_CLAUSE_WORDS]
            ends += [m.end() for m in _CONJUNCTION.finditer(self._text) if m.end() >= FIRST_PHRASE_CHARS]
        longest = _longest(self._text)
        if ends and min(ends) <= longest:
            return min(ends)
        return _cut(self._text, longest) if len(self._text) > longest else None

    def _stalled_end(self) -> int:
        """Where a piece ends if no more text comes for a while; 0 if it has to wait all the same.

        Number and full stop may go on ("3.14"), and the last word may not be all of it.
        """
        if self._text.startswith(_FENCE):
            return 0
        if _SEEMS_OVER.search(self._text) and not ends_no_sentence(self._text.rstrip()):
            return len(self._text)
        ends = [match.end() for match in _WORD_END.finditer(self._text)] if self._first else []
        return ends[-1] if ends and self._words(ends[-1]) >= FIRST_CLAUSE_WORDS else 0

    def _words(self, end: int) -> int:
        return len(_WORD.findall(self._text, 0, end))


def cut(text: str, longest: int) -> list[str]:
    """The text in parts of at most `longest` characters, cut where one breathes."""
    parts = []
    while len(text) > longest:
        end = _cut(text, longest)
        parts.append(text[:end].strip())
        text = text[end:]
    return [part for part in (*parts, text.strip()) if part]


def _longest(text: str) -> int:
    start = text[:LONGEST_WIDE_CHARS]
    return LONGEST_WIDE_CHARS if 2 * len(re.findall(r"[⺀-鿿＀-｠]", start)) > len(start) else LONGEST_CHARS


def _cut(text: str, longest: int) -> int:
    """The last place to breathe within the first `longest` characters, or the last space."""
    marks = [match.end() for match in _BREATH.finditer(text, longest // 2, longest)]
    return marks[-1] if marks else text.rfind(" ", 0, longest) + 1 or longest
