"""Turn written text into text that can be said, in its own language. Pure.

Plain words are never touched: nothing but white space is lost from them.
"""

import re
import unicodedata

from vita_duplex.tts.text.english import written_out
from vita_duplex.tts.text.markup import ADDRESS, plain
from vita_duplex.tts.text.maths import Language, spell_signs
from vita_duplex.tts.text.reading import half_width, has_symbols, read_out
from vita_duplex.tts.text.screen import spelled_out

_CHINESE = re.compile(r"[㐀-鿿，。！？、；：￥]")
_WORD = re.compile(r"[A-Za-z]{2,}")
_LINK = {"en": "a link", "zh": "一个链接"}


def language_of(text: str, otherwise: Language = "en") -> Language:
    """Chinese if it has more Chinese characters than words in Latin letters; `otherwise` if it has neither."""
    chinese, words = len(_CHINESE.findall(text)), len(_WORD.findall(text))
    if chinese == words == 0:
        return otherwise
    return "zh" if chinese > words else "en"


def is_plain(text: str) -> bool:
    """Whether it goes without the grammars, which take milliseconds."""
    return not has_symbols(
        text + unicodedata.normalize("NFKC", text) + written_out(text)
    )  # "m²" has a 2, "Part II" too


def normalise(text: str, language: Language | None = None) -> str:
    """The sayable form of one piece of text, in its own language if none is given; empty if there is nothing to say."""
    prose = plain(text)
    language = language or language_of(prose)
    prose = spelled_out(half_width(prose), language).replace(ADDRESS, _LINK[language])
    said = " ".join(read_out(spell_signs(prose, language), language).split())
    said = re.sub(
        r" (?=[,.;:!?](?:\s|$)|[，。！？；：、])", "", said
    )  # where a mark or a formula's frame was taken out
    return said if re.search(r"\w", said) else ""
