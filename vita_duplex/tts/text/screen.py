"""Say what is written for a screen: tags, entities, JSON, paths, mail, marks of markdown's dialects. Pure."""

import html
import json
import re
from typing import Any

from vita_duplex.tts.text.maths import Language

_TAG = (
    "div|p|a|span|img|br|hr|h[1-6]|ul|ol|li|table|tr|td|th|thead|tbody|strong|em|b|i|u|s|code|pre|blockquote|font|small"
    "|sub|sup|details|summary|script|style|section|button|kbd|mark|del|ins|center"
)
_ENDINGS = (
    "py|js|ts|json|ya?ml|txt|md|html?|css|pdf|csv|gz|zip|jpe?g|png|exe|sh|docx?|xlsx?|mp3|mp4|wav|toml|ini|cfg|log|xml"
    "|sql"
)
_GREEK = "alpha|beta|gamma|delta|epsilon|zeta|theta|lambda|mu|sigma|phi|omega"

_MARKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<!--.*?(?:-->|$)", re.DOTALL), " "),
    (re.compile(rf"</?(?:{_TAG})(?:\s+[\w:-]+=(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s<>]+))*\s*/?>", re.IGNORECASE), " "),
    (re.compile(r"(?<!=)==(?=[^\s=])([^=\n]*[^\s=])==(?!=)"), r"\1"),
    (re.compile(r"(?<![\w+])\+\+(?=\w)([^+\n]*\w)\+\+(?![\w+])"), r"\1"),
    (re.compile(r"\|\|(?=\S)([^|\n]+)(?<=\S)\|\|"), r"\1"),
    (re.compile(r"(?<=\w)~(\w{1,3})~"), r"\1"),
    (re.compile(r"\^(\w{1,3})\^(?!\w)"), r"^\1"),
    (re.compile(r"(?<![*\w])([A-Za-z]|\d+)\*\*(\d+)(?!\*)"), r"\1^\2"),
    (re.compile(r"(?<![\w:]):[a-z][a-z_]+:(?![\w:])"), " "),  # shortcodes of emoji
    (re.compile(r"^\s*\([a-z\d]\)\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*[→⇒➜•·]\s*", re.MULTILINE), ""),
    (re.compile(rf"\\({_GREEK})\b"), r" \1 "),
    (re.compile(r"(?<![\w$])\$(?=[A-Za-z\\(])([^$\n]{1,80}[^$\s])\$(?![\w$])"), r"\1"),
    (re.compile(r"\\sqrt\{([^{}]*)\}"), r"√\1"),
)
_MARKED = re.compile(r"[<&={+|~^*:(\[\\→⇒➜•·$©®™]")
_NAMED = re.compile(r"[@\\/#_~]|\.\w")
"""Most pieces have none of these, and are not looked at further."""
_SIGNS = {"©": " copyright ", "®": " ", "™": " "}
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)
_HANDLE = re.compile(r"(?<![\w.])@(?=[A-Za-z])(\w+)", re.ASCII)
_HASHTAG = re.compile(r"(?<![\w&])#(?=[A-Za-z一-鿿])(\w+)")
_WINDOWS = re.compile(r"(?<!\w)([A-Za-z]):\\([^\s\"'<>|?*，。]*[^\s\"'<>|?*，。.,;:!)])?")
_UNIX = re.compile(
    r"(?<![\w/:.<~\\])~?(?:/[A-Za-z_][\w.-]*\w|/[A-Za-z_])+/?(?![\w/])|(?<![\w/:.<])~/[\w./-]+\w", re.ASCII
)
_FILE = re.compile(rf"(?<![\w/@.-])(?:[\w-]+/)*[\w-]+(?:\.[\w-]+)*\.(?:{_ENDINGS})(?![\w/-])", re.ASCII)
_SNAKE = re.compile(r"(?<![\w./@])[a-z]+(?:_[a-z\d]+)+(?![\w@]|\.\w)")
_NAMES = {
    "en": {".": "dot", "_": "underscore", "-": "dash", "/": "slash", "\\": "backslash", "@": "at", "+": "plus",
           "~": "tilde", ":": "colon"},
    "zh": {".": "点", "_": "下划线", "-": "杠", "/": "斜杠", "\\": "反斜杠", "@": "at", "+": "加", "~": "波浪号",
           ":": "冒号"},
}  # fmt: skip


def unmarked(text: str) -> str:
    """Without tags, entities and marks that markdown's dialects have; line ends stay."""
    if not _MARKED.search(text):
        return text
    for pattern, replacement in _MARKS:
        text = pattern.sub(replacement, text)
    text = html.unescape(text)
    for sign, said in _SIGNS.items():
        text = text.replace(sign, said)
    return _without_json(text)


def spelled_out(text: str, language: Language) -> str:
    """Paths, names of files, mail and accounts with their signs in words."""
    if not _NAMED.search(text):
        return text
    for pattern in (_MAIL, _WINDOWS, _UNIX, _FILE):
        text = pattern.sub(lambda match: _in_words(match[0], language), text)
    text = _HANDLE.sub(lambda match: _in_words(match[0], language), text)
    text = _HASHTAG.sub(r"\1", text)
    return _SNAKE.sub(lambda match: match[0].replace("_", " "), text)


def _in_words(name: str, language: Language) -> str:
    names = _NAMES[language]
    words = re.sub(r"[._\-/\\@+~:]", lambda sign: f" {names[sign[0]]} ", name)
    return " ".join(re.sub(r"(?<=[A-Za-z])(?=\d)", " ", words).split())


def _without_json(text: str) -> str:
    """Objects and lists of JSON as a row of names and values; what is none stays as it is."""
    said, at = "", 0
    while found := re.search(r"[{\[](?=[\s\"'\[{\d-])", text[at:]):
        start = at + found.start()
        value, end = _json_at(text, start)
        if end is None or text[end : end + 1] == "(":
            said, at = said + text[at : start + 1], start + 1
        else:
            said, at = said + text[at:start] + _say(value), end
    return said + text[at:]


def _json_at(text: str, start: int) -> tuple[Any, int | None]:
    decoder = json.JSONDecoder()
    for candidate in (text, text.replace("'", '"')):
        try:
            value, end = decoder.raw_decode(candidate, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict | list) and value and not (isinstance(value, list) and end - start < 5):
            return value, end  # a single number in brackets is a note
    return None, None


def _say(value: Any) -> str:
    match value:
        case dict():
            chinese = re.search(r"[一-鿿]", "".join(map(str, value)))
            colon, comma = ("：", "，") if chinese else (": ", ", ")
            return comma.join(f"{name}{colon}{_say(one)}" for name, one in value.items())
        case list():
            return ", ".join(map(_say, value))
        case bool():
            return str(value).lower()
        case None:
            return "nothing"
    return str(value)
