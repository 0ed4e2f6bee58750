"""Turn written text into text that can be said: no markdown, no addresses, no pictures. Pure.

Numbers, dates and units are left to the voices, which know their language.
"""

import re

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"```.*?(```|$)", re.DOTALL), " "),  # code blocks are not for the ear
    (re.compile(r"`([^`]*)`"), r"\1"),
    (re.compile(r"!?\[([^\]]*)\]\([^)]*\)"), r"\1"),  # links and pictures: their caption
    (re.compile(r"https?://\S+"), "a link"),
    (re.compile(r"^\s{0,3}#{1,6}\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*(?:[-*•+]|\d{1,2}[.)])\s+", re.MULTILINE), ""),
    (re.compile(r"(\*\*|__|~~)(.+?)\1"), r"\2"),
    (re.compile(r"(?<!\w)[*_](?=\S)(.+?)(?<=\S)[*_](?!\w)"), r"\1"),  # not "2 * 3 * 4"
    (re.compile(r"<[123]>"), ""),  # VITA's state tokens, should one slip into the text
    # Emoji, pictographs and their modifiers (Unicode 15 blocks).
    (re.compile(r"[\U0001F000-\U0001FAFF\u2600-\u27BF\uFE0F\u200D]"), ""),
    (re.compile(r"\s+"), " "),
)


def normalise(text: str) -> str:
    """The sayable form of one piece of text; empty if there is nothing to say."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = text.strip()
    return text if re.search(r"\w", text) else ""
