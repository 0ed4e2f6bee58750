"""Take the marks out of written text: state tokens, markdown, code, LaTeX's frame, addresses, emoji. Pure."""

import re

from vita_duplex.tts.text.screen import unmarked

ADDRESS = "\ufffc"
"""Stands where a URL was (Unicode's object replacement character)."""

_ROW = re.compile(r"^[ \t]*\|(.*)\|[ \t]*$|^([^|\n]+ \| [^|\n]+ \| [^\n]+)$", re.MULTILINE)  # of a table

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"```.*?(```|$)", re.DOTALL), " "),  # code blocks are not for the ear
    (re.compile(r"<(?:[123]|unk|s|/s|br\s*/?|/?(?:b|i|u|em|strong|p|sub|sup))>"), " "),  # state tokens; common tags
    (re.compile(r"`([^`]*)`"), r"\1"),
    (re.compile(r"(?<=\S)\[\d{1,3}\]|\[\^\w+\]"), ""),  # references to notes
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),  # links and pictures: their caption
    (re.compile(r"<?(?:https?://|www\.)[^\s<>（），。！？、；]*[^\s<>（），。！？、；.,;:!?)\"'”]>?"), ADDRESS),
    (re.compile(r"^[ \t|:]*-[-\s|:]*$", re.MULTILINE), ""),  # rules, and the line under a table's head
    (re.compile(r"^\s*[*_=]{3,}\s*$", re.MULTILINE), ""),
    (re.compile(r"^\s{0,3}#{1,6}\s+", re.MULTILINE), ""),
    (re.compile(r"^\s{0,3}(?:>\s?)+", re.MULTILINE), ""),
    (re.compile(r"^\s*(?:[-*•+]\s+)?\[[ xX]\]\s+", re.MULTILINE), ""),  # ticked boxes
    (re.compile(r"^\s*(?:[-*•+]|\d{1,2}[.)])\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*\d{1,2}、", re.MULTILINE), ""),
    (re.compile(r"(\*\*|__|~~)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<!\w)[*_](?=\S)(.+?)(?<=\S)[*_](?!\w)"), r"\1"),  # not "2 * 3 * 4"
    (re.compile(r"\*\*|~~"), " "),  # half a pair: the other one is in another piece
    # Emoji, pictographs, their modifiers and keycaps (Unicode 15 blocks), and the symbols of VITA-1.5's state tokens.
    (re.compile(r"[\U0001F000-\U0001FAFF\U000E0020-\U000E007F☀-➿⬀-⯿️‍⃣]"), " "),
)


def plain(text: str) -> str:
    """The prose in a piece of markdown, on one line, with `ADDRESS` in place of each URL."""
    text = unmarked(_RULES[0][0].sub(" ", text))
    for pattern, replacement in _RULES[1:]:
        text = pattern.sub(replacement, text)
    text = _ROW.sub(_cells, text)
    return " ".join(text.split())


def _cells(row: re.Match[str]) -> str:
    """The cells of a table's row as a sentence."""
    cells = [cell.strip() for cell in (row[1] or row[2]).split("|")]
    comma, stop = ("，", "。") if re.search(r"[㐀-鿿]", row[0]) else (", ", ".")
    return comma.join(cell for cell in cells if cell) + stop
