"""Where a spoken answer is long enough: cut a text stream at the end of its n-th sentence."""

import math
import re

from vita_duplex.engine.full_stops import ends_no_sentence

_END = re.compile(r"""(?<=[^\s.!?])[.!?]+["')\]]*(?=\s)|(?<=[^\s。！？])[。！？]+|(?<=\S)[ \t]*(?=\n)""")
"""A full stop and the space after it, a Chinese one by itself, or the end of a line that has words."""


class SentenceLimit:
    """Pass text on until `n` sentences are complete.

    Text is passed on at once, never held back: the space that proves the last full stop to be one is
    the first thing that is not passed on.
    """

    def __init__(self, n: int | None) -> None:
        """None: there is no limit."""
        self.left = math.inf if n is None else n
        self._sentence = ""

    def push(self, delta: str) -> str:
        """The part of `delta` that still belongs to the answer; when `left` is 0 all was said."""
        if self.left == 0:
            return ""
        before = len(self._sentence)
        text = self._sentence + delta
        start = 0
        for match in _END.finditer(text):
            end = match.end()
            if end < before or not text[start:end].strip() or ends_no_sentence(text[start:end]):
                continue
            start = end
            self.left -= 1
            if self.left == 0:
                return text[before:end]
        self._sentence = text[start:]
        return delta
