"""What English writes short: addresses, telephones, codes, money, ranges, Roman numbers, titles. Pure.

These rules come before WeText, which reads a house number as a year, a card as a number and a range as two words.
"""

import re
from typing import Any

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_UNITS = {"$": "dollars", "€": "euros", "£": "pounds", "₹": "rupees", "¥": "yen", "₩": "won", "₽": "rubles",
          "₿": "bitcoins", "₪": "shekels", "₺": "lira", "₴": "hryvnias", "₫": "dong", "฿": "baht",
          "₦": "naira"}  # fmt: skip
_CODES = {"USD": "US dollars", "EUR": "euros", "GBP": "pounds", "JPY": "yen", "CNY": "yuan", "CHF": "Swiss francs",
          "INR": "rupees", "AUD": "Australian dollars", "CAD": "Canadian dollars"}  # fmt: skip
_DOLLARS = {"US": "US", "A": "Australian", "AU": "Australian", "C": "Canadian", "CA": "Canadian", "NZ": "New Zealand",
            "HK": "Hong Kong", "S": "Singapore"}  # fmt: skip
_LARGE = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion",
          "tn": "trillion"}  # fmt: skip
_PARTS = {"½": "a half", "¼": "a quarter", "¾": "three quarters", "⅓": "a third", "⅔": "two thirds",
          "1/2": "a half", "1/4": "a quarter", "3/4": "three quarters", "1/3": "a third",
          "2/3": "two thirds"}  # fmt: skip
_STREETS = {"Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Hwy": "Highway", "Pkwy": "Parkway"}
_TITLES = {"Sgt": "Sergeant", "Lt": "Lieutenant", "Gen": "General", "Capt": "Captain", "Gov": "Governor",
           "Sen": "Senator", "Rev": "Reverend", "Col": "Colonel", "Mt": "Mount", "Ft": "Fort"}  # fmt: skip
_FIRMS = {"Inc": "Incorporated", "Ltd": "Limited", "Corp": "Corporation", "Co": "Company"}
_SHORT = {"min": "minimum", "max": "maximum", "dept": "department", "Dept": "Department", "ext": "extension",
          "Sept": "September", "avg": "average"}  # fmt: skip
_DAYS = {"Mon": "Monday", "Tue": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Fri": "Friday", "Sat": "Saturday",
         "Sun": "Sunday"}  # fmt: skip
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_KINGS = (
    "Henry|George|Louis|Edward|Charles|James|William|Richard|Elizabeth|Mary|Paul|Pius|Benedict|Leo|Philip|Frederick|Nicholas"
    "|Peter|Napoleon|Alexander|Catherine|Francis|Gregory|Ivan"
)
_NUMBERED = "World War|Chapter|Part|Type|Super Bowl|Volume|Act|Phase|Rocky|Section|Book|Article|Title|Level|Class|Stage"
_CODE = "PIN|[Cc]ode|[Pp]assword|[Pp]asscode|(?:ZIP|zip) code|[Ee]xtension|[Oo]rder number|ending in|OTP"


def digits(text: str) -> str:
    """Digit by digit, groups apart."""
    groups = re.findall(r"\d+", text)
    return ", ".join(" ".join(_DIGITS[int(digit)] for digit in group) for group in groups)


def _roman(letters: str) -> int:
    values = [_ROMAN[letter] for letter in letters]
    return sum(-one if one < next_one else one for one, next_one in zip(values, [*values[1:], 0], strict=True))


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _by_hundreds(match: re.Match[str]) -> str:
    """`404` as four oh four, `370` as three seventy, `200` as two hundred."""
    first, rest = match[2][0], match[2][1:]
    if rest == "00":
        return match[0]
    return f"{match[1]} {_DIGITS[int(first)]} {'oh ' + _DIGITS[int(rest[1])] if rest[0] == '0' else rest}"


def _full(words: dict[str, str]) -> Any:
    """The long form of an abbreviation, with its full stop where a sentence may end."""

    def long(match: re.Match[str]) -> str:
        return words[match[1]] + ("." if re.match(r"\s*$", match.string[match.end() :]) else "")

    return long


def _euros(match: re.Match[str]) -> str:
    whole, cents = match[1] or match[3], match[2] or match[4]
    return f"{whole} euro{'' if whole == '1' else 's'}" + (f" and {int(cents)} cents" if int(cents) else "")


def _any(words: dict[str, str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_SIGN = f"[{''.join(_UNITS)}]"
FIRST: tuple[tuple[re.Pattern[str], Any], ...] = (
    # telephones, cards, codes
    (re.compile(r"\+\d{1,3}[ -]?(?:\(\d+\)[ -]?)?\d[\d -]{5,}\d"), lambda m: f"plus {digits(m[0])}"),
    (re.compile(r"\(\d{3}\)\s?\d{3}[-. ]\d{4}\b|\b1-\d{3}-\d{3}-\d{4}\b|(?<![\d.])\d{3}\.\d{3}\.\d{4}(?!\.?\d)"),
     lambda m: digits(m[0])),
    (re.compile(r"\b\d{4}([ -])\d{4}\1\d{4}\1\d{1,4}\b"), lambda m: digits(m[0])),
    (re.compile(r"\b([Cc]all|[Dd]ial|[Rr]ing|[Pp]hone) (\d{3})\b(?![-.,/]?\d)(?= *(?:[.,!?]|$|[a-z]))"),
     lambda m: f"{m[1]} {digits(m[2])}"),
    (re.compile(rf"\b({_CODE})((?: number)?(?: is|:)?) (\d{{3,}})\b(?![.,]\d)"),
     lambda m: f"{m[1]}{m[2]} {digits(m[3])}"),
    (re.compile(r"(?<=, [A-Z]{2} )\d{5}\b"), lambda m: digits(m[0])),
    (re.compile(r"\b([Rr]oom|[Ff]light(?: [A-Z]{2})?|[Ee]rror|[Hh]ighway|Hwy\.|[Rr]oute) ([1-9]\d\d)\b(?![.,]?\d)"),
     _by_hundreds),
    (re.compile(r"\b\d{4,5}(?= [A-Z][a-z]+ Hills, [A-Z]{2}\b)"), lambda m: digits(m[0])),
    # money
    (re.compile(rf"(?<![\d.])-(?={_SIGN}\d)"), "minus "),
    (re.compile(rf"({_SIGN})(\d[\d.,]*)\s?[-–]\s?\1?(\d[\d.,]*\d|\d)"), lambda m: f"{m[2]} to {m[3]} {_UNITS[m[1]]}"),
    (re.compile(rf"({_SIGN})(\d[\d.,]*)\s?(bn|mn|tn|[kKmMbBtT])\b(?! ?[a-z]*illion)"),
     lambda m: f"{m[2]} {_LARGE[m[3].lower()]} {_UNITS[m[1]]}"),
    (re.compile(r"\b(US|AU|A|CA|C|NZ|HK|S)\$(\d[\d.,]*\d|\d)"), lambda m: f"{m[2]} {_DOLLARS[m[1]]} dollars"),
    (re.compile(r"(?<![\d.,])(\d+),(\d\d)\s?€|€(\d+),(\d\d)(?![\d,])"), _euros),
    (re.compile(r"₹(\d{1,3}(?:,\d{2,3})+)"), lambda m: f"{m[1].replace(',', '')} rupees"),
    (re.compile(r"([₹¥₩₽₿₪₺₴₫฿₦])(\d[\d,]*(?:\.\d+)?)(?! ?(?:[kKMB]\b|[mbt]r?illion))"),
     lambda m: f"{m[2]} {_UNITS[m[1]]}"),
    (re.compile(rf"\b(\d[\d,]*(?:\.\d+)?) ?({_any(_CODES)})\b"), lambda m: f"{m[1]} {_CODES[m[2]]}"),
    (re.compile(rf"\b({_any(_CODES)}) ?(\d[\d,]*(?:\.\d+)?)"), lambda m: f"{m[2]} {_CODES[m[1]]}"),
    (re.compile(r"(?<=\d)\s?¢"), " cents"),
    (re.compile(r"\b(\d+(?:\.\d+)?)([MB])\b(?= [a-z])|\b(\d\d+(?:\.\d+)?)(K)\b(?= [a-z])"),
     lambda m: f"{m[1] or m[3]} {_LARGE[(m[2] or m[4]).lower()]}"),
    # fractions, ranges, measures
    (re.compile(r"\b50/50\b"), "fifty fifty"),
    (re.compile(r"\b9/11\b"), "nine eleven"),
    (re.compile(r"\b(\d+)(?:\s?([½¼¾⅓⅔])| ([123]/[234])(?![/\d]))"),
     lambda m: f"{m[1]} and {_PARTS.get(m[2] or m[3], m[2] or m[3])}"),
    (re.compile(r"[½¼¾⅓⅔]"), lambda m: _PARTS[m[0]].replace("a ", "one ")),
    (re.compile(r"\b(\d{1,2}(?::\d\d)?)-(\d{1,2}(?::\d\d)?)(?=\s?(?:[ap]m|[AP]M|[ap]\.m\.))"), r"\1 to \2"),
    (re.compile(r"(\d ?[ap]m)\s?[-–]\s?(?=\d)", re.IGNORECASE), r"\1 to "),
    (re.compile(r"\b(works?|score (?:was|is)|won|lost|open|ages|from|between) (\d+)-(\d+)\b(?![-/])"), r"\1 \2 to \3"),
    (re.compile(r"(?<=\d%)\s?[-–]\s?(?=\d)"), " to "),
    (re.compile(r"(\d:\d\d)\s?[-–]\s?(?=\d)"), r"\1 to "),
    (re.compile(r"(?<![\w.])(\d{1,2})['’′]\s?(\d{1,2})[\"”″]"), r"\1 foot \2"),
    (re.compile(r"(?<![\w.])(\d{1,3})['’′](?= (?:tall|long|high|wide|deep)\b)"), r"\1 feet"),
    (re.compile(r"(?<![\w.\"“])(\d{1,3})[\"″](?= [a-z])"), r"\1 inch"),
    (re.compile(r"\b(\d+)x(\d+)\b(?!\s*=)"), r"\1 by \2"),
    (re.compile(r"\b(\d+)x(?= (?:[a-z]+er|as|more|the)\b)"), r"\1 times"),
    (re.compile(r"(?<=\d) ?Mbps\b"), " megabits per second"),
    (re.compile(r"(?<=\d) ?Gbps\b"), " gigabits per second"),
    (re.compile(r"(?<=\d) ?fps\b"), " frames per second"),
    # streets, titles, firms
    (re.compile(r"\b(\d+\w? [A-Z][a-z]+|\d+(?:st|nd|rd|th)) St\b\.?(?=(\s*)(.?))"),
     lambda m: f"{m[1]} Street{';' if m[3].isupper() else '' if m[3] else '.'}"),
    (re.compile(r"(?<=[a-z] )([A-Z][a-z]+) St\.(?=(\s+[a-z]|,|\s*$))"),
     lambda m: f"{m[1]} Street{'' if m[2].strip() else '.'}"),
    (re.compile(r"(?<=[a-z] )([A-Z][a-z]+) Dr\.(?=(\s+[a-z]|,|\s*$))"),
     lambda m: f"{m[1]} Drive{'' if m[2].strip() else '.'}"),
    (re.compile(rf"\b({_any(_STREETS)})\.(?!\w)"), _full(_STREETS)),
    (re.compile(rf"\b({_any(_TITLES)})\.(?=\s[A-Z])"), lambda m: _TITLES[m[1]]),
    (re.compile(rf"(?<=[A-Za-z&] )({_any(_FIRMS)})\.(?!\w)"), _full(_FIRMS)),
    (re.compile(rf"\b({_any(_SHORT)})\.(?=\s(?:\d|of\b))"), lambda m: _SHORT[m[1]]),
    (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\.(?=\s+(?:to|and|at)\b)"), lambda m: _DAYS[m[1]]),
    (re.compile(r"(?<=\bto )(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\.(?=\s*$)"), lambda m: f"{_DAYS[m[1]]}."),
    # Roman numbers
    (re.compile(rf"\b({_KINGS}) ([IVX]{{2,5}}|V|X)\b"), lambda m: f"{m[1]} the {_ordinal(_roman(m[2]))}"),
    (re.compile(rf"\b({_NUMBERED}) ([IVXL]+)\b(?!')"), lambda m: f"{m[1]} {_roman(m[2])}"),
    # words
    (re.compile(r"(?<!\w)w/o(?= )"), "without"),
    (re.compile(r"(?<!\w)w/(?= )"), "with"),
)  # fmt: skip


_SHORT_SOMEHOW = re.compile(r"[\d½¼¾⅓⅔/]|\b[A-Za-z]{2,5}\.(?=[\s,]|$)|[IVXL]\b")
"""Most pieces have nothing of the kind, and are not looked at further."""


def written_out(text: str) -> str:
    """The text with what English writes short in words, or in numbers that WeText reads right."""
    if not _SHORT_SOMEHOW.search(text):
        return text
    for pattern, replacement in FIRST:
        text = pattern.sub(replacement, text)
    return text
