"""Read out numbers, dates, money, units and abbreviations in English or Chinese.

WeText (Apache-2.0; its grammars come in the package) does the work. The rules here say what it would read wrongly, and
only a stretch of text that has something to read out goes to it, so that plain words cannot be touched.
"""

import re
from functools import cache
from typing import Any

from vita_duplex.tts.text.english import written_out
from vita_duplex.tts.text.maths import Language

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CENTS = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
_CURRENCIES = {"¥": "元", "$": "美元", "€": "欧元", "£": "英镑"}
_LARGE = {"k": "thousand", "m": "million", "b": "billion"}


def _spelled(match: re.Match[str]) -> str:
    """Digit by digit, groups apart."""
    return ", ".join(" ".join(_DIGITS[int(digit)] for digit in group) for group in re.findall(r"\d+", match[0]))


def _money(match: re.Match[str]) -> str:
    sign, whole, part = match.groups()
    unit, small = _CENTS[sign]
    large = f"{whole} {unit}{'' if whole == '1' else 's'}" if whole != "0" else ""
    cents = int(part)
    if not cents:
        return large or f"0 {unit}s"
    plural = "" if cents == 1 else "s"
    coins = "pence" if small == "penny" and cents != 1 else small + plural
    return f"{large} and {cents} {coins}" if large else f"{cents} {coins}"


def _decade(match: re.Match[str]) -> str:
    year = _wetext("en", match[1] or f"19{match[2]}")
    words = year.split()
    if match[2]:
        words = words[1:]
    last = words[-1]
    return " ".join([*words[:-1], last[:-1] + "ies" if last.endswith("y") else last + "s"])


def _of_may(day: int) -> str:
    """A date in the one month whose name is another word as well, which keeps WeText from reading it."""
    return f"May {day}{'th' if day // 10 == 1 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


_Rules = tuple[tuple[re.Pattern[str], Any], ...]

_ENGLISH: _Rules = (
    (re.compile(r"\be\.g\.,?", re.IGNORECASE), "for example"),
    (re.compile(r"\bi\.e\.,?", re.IGNORECASE), "that is"),
    (re.compile(r"\betc\.(?=\s+[A-Z]|\s*$)"), "et cetera."),
    (re.compile(r"\betc\."), "et cetera"),
    (re.compile(r"\bvs\.?(?=\s)"), "versus"),
    (re.compile(r"\bapprox\.(?=\s)"), "approximately"),
    (re.compile(r"\bMr\.(?=\s)"), "Mister"),
    (re.compile(r"\bMrs\.(?=\s)"), "Missus"),
    (re.compile(r"\bDr\.(?=\s)"), "Doctor"),
    (re.compile(r"\bProf\.(?=\s)"), "Professor"),
    (re.compile(r"\bSt\.(?=\s[A-Z])"), "Saint"),
    (re.compile(r"(?<=[?!] )No\. (\d)(?=\s)"), lambda m: f"No, {_DIGITS[int(m[1])]}"),
    (re.compile(r"\bNo\.\s?(?=\d)|(?<!\w)#(?=\d)"), "number "),
    (re.compile(r"\bp\.\s?(?=\d)"), "page "),
    (re.compile(r"(?:\babout\s+)?(?<![\w%])(?:~|ca?\.\s?)(?=[\d$€£])"), "about "),
    (re.compile(r"(?<=[\d%])\s?~\s?(?=\d)"), " to "),
    (re.compile(r"(?<=\b[oO]n )May (\d{1,2})\b|\bMay (\d{1,2})(?=,? \d{4}\b)"), lambda m: _of_may(int(m[1] or m[2]))),
    (re.compile(r"\bC#"), "C sharp"),
    (re.compile(r"\b24/7\b"), "twenty-four seven"),
    (re.compile(r"(?<![\d.,])\d{3}-(?:\d{3}-)?\d{4}(?![\d-])|\+\d{1,3}[ -]\d[\d -]{6,}\d"), _spelled),  # telephones
    (re.compile(r"\bv(?=\d+\.\d)"), "version "),
    (re.compile(r"(?<![\d.])\d+(?:\.\d+){2}(?![\d.]*\d)"), lambda m: " point ".join(m[0].split("."))),  # 3.12.1
    (re.compile(r"\b(1\d{3}|20\d{2})s\b|(?<!\w)['’](\d0)s\b"), _decade),
    (re.compile(r"([$€£])(\d+(?:,\d{3})*)\.(\d\d)(?!\d|\.\d|\s?(?:[kKMB]\b|thousand|[mbt]r?illion))"), _money),
    (re.compile(r"(?<!\w)(\d+(?:[.,]\d+)*)\s?€"), r"€\1"),
    (re.compile(r"\$([\d.,]+)\s?([kKMB])\b"), lambda m: f"{m[1]} {_LARGE[m[2].lower()]} dollars"),
    (re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3}){2,}(?![\d,])"), lambda m: m[0].replace(",", "")),
    (re.compile(r"(?<![\d.,])1000(?![\d.,]*\d)"), "1,000"),  # WeText: "ten hundred", as of a year
    # WeText drops this "one".
    (re.compile(r"(?<![\w.,$€£¥])(?=[$€£¥]1,?\d{3}(?![\d,])|1,\d{3}(?![\d,])|1\d{3}\.\d)"), "one "),
    (re.compile(r"(?<=\d)[eE]([+-]?\d+)\b"), r" times ten to the power of \1"),
    (re.compile(r"(?<=\d)\s?m/s\b"), " meters per second"),
    (re.compile(r"(?<=\d)\s?m(?=[\s,.;:!?)]|$)"), " meters"),  # WeText: minutes
    (re.compile(r"(?<=\d)\s?°(?![CF\w])"), " degrees"),
    (re.compile(r"(?<=[A-Za-z])-(?=\d)"), " "),  # COVID-19
    (re.compile(r"(?<=\d)\s?[–—−]\s?(?=\d)|(?<=\.\d)-(?=\d)"), " to "),
    (re.compile(r"(?<=\s)[–−](?=\d)|^[–−](?=\d)"), "-"),
    (re.compile(r"\b(\d{4})-(\d{4})\b"), r"\1 to \2"),  # years, which WeText reads as plain numbers in a range
    (re.compile(r"\s&\s"), " and "),
)


_CODES = "验证码|密码|房间号?|尾号|邮编|学号|编号|单号"
_CHINESE: _Rules = (
    (
        re.compile(rf"({_CODES})(是|为|：|:)?\s?(\d{{2,}})(?![\d.])"),
        lambda m: f"{m[1]}{m[2] or ''}{''.join('零一二三四五六七八九'[int(digit)] for digit in m[3])}",
    ),
    (re.compile(r"(?<=\d)%\s?[-–~]\s?(?=\d+%)"), "%到"),
    (re.compile(r"(?<=[¥$€£])(\d{1,3}(?:,\d{3})+)"), lambda m: m[1].replace(",", "")),
    (re.compile(r"¥\s?(\d{4,}(?:\.\d+)?)元?"), r"\1元"),  # WeText: 一元两百九十九
    (re.compile(r"([¥$€£])\s?(\d[\d.,]*)\s?([万亿]+)"), lambda m: m[2] + m[3] + _CURRENCIES[m[1]]),
    (re.compile(r"(?<=[\d方])\s?m/s(?![A-Za-z])"), "米每秒"),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=[A-Za-z])-(?=\d)"), " "),  # GPT-4 is not "GPT minus four"
    (re.compile(r"(?<=\d)\s?°(?![CF\w])"), "度"),
    (re.compile(r"(?<=\d)\s?[–—]\s?(?=\d)"), "-"),
    (re.compile(r"(?<![\d])24/7(?!\d)|7\*24"), "七天二十四"),
    (re.compile(r"(?<![\d.])\d+(?:\.\d+){2}(?![\d.]*\d)"), lambda m: "点".join(m[0].split("."))),
    (re.compile(r"\s&\s"), "和"),
    (re.compile(r"(?<=[一-鿿])~(?=\d)"), "约"),
)

_WRITTEN = re.compile(r"[0-9%$€£¥℃℉&@=+]")
# What the grammars know. On anything else they give up, and double quotes come out escaped.
_KNOWN = {
    "en": re.compile(r"[A-Za-z0-9 .,:;!?%$€£¥°'&@#+=/()\-]+"),
    "zh": re.compile(r"[A-Za-z0-9 .,:;!?%$€£¥°℃℉'&@#+=/()\-~一-鿿。，！？、；：（）]+"),
}
_LONG_WORD = re.compile(r"[a-z]{4,}")
_FULL_WIDTH = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_FULL_WIDTH |= {ord("％"): ord("%"), ord("＋"): ord("+"), ord("＝"): ord("="), ord("－"): ord("-"), ord("￥"): ord("¥")}


def half_width(text: str) -> str:
    """Full-width digits, letters and operators in their plain form; punctuation stays."""
    return text.translate(_FULL_WIDTH)


def has_symbols(text: str) -> bool:
    """Whether something in it is not written in words."""
    return _WRITTEN.search(text) is not None


def read_out(text: str, language: Language) -> str:
    """The text with everything in words that is not written in words."""
    text = written_out(text) if language == "en" else text
    for pattern, replacement in _ENGLISH if language == "en" else _CHINESE:
        text = pattern.sub(replacement, text)
    return _KNOWN[language].sub(lambda m: _read(m[0], language), text)


def _read(stretch: str, language: Language) -> str:
    if not has_symbols(stretch):
        return stretch
    core = stretch.strip()
    start = stretch.index(core)
    said = _wetext(language, core)
    if not _keeps_words(core, said):
        said = " ".join(_wetext(language, word) for word in core.split())
    return stretch[:start] + said + stretch[start + len(core) :]


def _keeps_words(text: str, said: str) -> bool:
    """Whether no word of more than three letters was taken for a unit or a date: shorter ones are units."""
    return set(_LONG_WORD.findall(text.casefold())) <= set(_LONG_WORD.findall(said.casefold()))


def _wetext(language: Language, text: str) -> str:
    try:
        said: str = _grammar(language).normalize(text)
    except (AssertionError, IndexError, KeyError, ValueError):  # its parser met something it has no rule for
        return text
    return said


@cache
def _grammar(language: Language) -> Any:
    """Load the grammars (0.5 s, 40 MB for both languages)."""
    from wetext import Normalizer

    return Normalizer(lang=language, operator="tn")
