"""Put the pieces of a reply together again, each language as it is written. Pure."""

import re
from collections.abc import Iterable

_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60"  # Chinese and Japanese with their punctuation (Unicode blocks)
_ENDS_WIDE = re.compile(rf"[{_WIDE}][”’…—\"')\]]*$")
_WORD = re.compile(rf"\s*(?:[{_WIDE}]|[^\s{_WIDE}]+)")


def separator(before: str, after: str) -> str:
    """What stands between two pieces: nothing after Chinese or Japanese, or else a space."""
    return "" if not before or not after or _ENDS_WIDE.search(before) else " "


def joined(pieces: Iterable[str]) -> str:
    """The text of all pieces."""
    text = ""
    for piece in pieces:
        text += separator(text, piece) + piece
    return text


def head(text: str, share: float) -> str:
    """The words of `text`, or characters where there are no spaces, whose middle lies within its first `share`."""
    limit = share * len(text)
    end = 0
    for word in _WORD.finditer(text):
        start = word.start() + len(word[0]) - len(word[0].lstrip())
        if (start + word.end()) / 2 > limit:
            break
        end = word.end()
    return text[:end].strip()
