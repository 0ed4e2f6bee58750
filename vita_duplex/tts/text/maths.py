"""Say the signs of short formulas in words: operators between operands, powers, Greek letters. Pure."""

import re
import unicodedata
from typing import Literal

Language = Literal["en", "zh"]

_OPERATORS: dict[str, tuple[str, str]] = {
    "=": ("equals", "等于"),
    "≠": ("is not equal to", "不等于"),
    "≥": ("is greater than or equal to", "大于等于"),
    "≤": ("is less than or equal to", "小于等于"),
    "≈": ("is about", "约等于"),
    ">": ("is greater than", "大于"),
    "<": ("is less than", "小于"),
    "+": ("plus", "加"),
    "-": ("minus", "减"),
    "×": ("times", "乘"),
    "÷": ("divided by", "除以"),
    "±": ("plus or minus", "正负"),
    "→": ("to", "到"),
    "√": ("the square root of", "根号"),
    "∞": ("infinity", "无穷大"),
}
_SPELLINGS = {
    "!=": "≠",
    "==": "=",
    ">=": "≥",
    "<=": "≤",
    "->": "→",
    "=>": "→",
    "\\times": "×",
    "\\cdot": "×",
    "\\pi": "π",
}
_CERTAIN = re.compile(r"\s*([≠≥≤≈×÷±→√∞])\s*")
_BETWEEN = re.compile(r"(?<=[\w)|%])( ?)([=+<>])\1(?=[-\w(|√])|(?<=[\w)]) ([-*]) (?=[\w(])")
_POWER = re.compile(r"(?<=[\w)\]])\s?\^\s?(?:\{([^}]*)\}|\(([^)]*)\)|(-?(?:\d+(?:\.\d+)?|[A-Za-zα-ω])))")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
_AREA = re.compile(r"(?<=\d)\s?(km|cm|mm|m)(?:\^(2|3)|([²³]))(?!\w)")
_UNITS = {
    "km": ("kilometers", "公里"),
    "m": ("meters", "米"),
    "cm": ("centimeters", "厘米"),
    "mm": ("millimeters", "毫米"),
}
_GREEK = re.compile(r"(?<![Ͱ-Ͽ])[α-ωΑ-Ω](?![Ͱ-Ͽ])")


def spell_signs(text: str, language: Language) -> str:
    """The text with the signs of its formulas in words; numbers stay as they are written."""
    chinese = language == "zh"
    text = _latex(text)
    for spelling, sign in _SPELLINGS.items():
        text = text.replace(spelling, sign)
    text = _AREA.sub(lambda m: _area(m[1], m[2] or m[3].translate(_SUPERSCRIPTS), chinese), text)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text).translate(_SUBSCRIPTS)
    is_formula = "=" in text
    if is_formula:  # WeText would take 2x for "two times"; it does not know X
        text = re.sub(r"(?<=\d)x(?![A-Za-z])", " X", text)

    def in_word(match: re.Match[str]) -> str:
        sign = (match[2] or match[3]).replace("*", "×")
        if sign == "-" and not is_formula:  # a dash
            return match[0]
        word = _OPERATORS[sign][chinese]
        return word if chinese else f" {word} "

    text = _CERTAIN.sub(lambda m: _OPERATORS[m[1]][1] if chinese else f" {_OPERATORS[m[1]][0]} ", text)
    text = _BETWEEN.sub(in_word, text)
    text = _POWER.sub(lambda m: _power(m[1] or m[2] or m[3], chinese), text)
    text = _GREEK.sub(lambda m: _greek(m[0], chinese), text)
    return " ".join(text.split())


def _latex(text: str) -> str:
    """Without the frame of a formula; a fraction as a division."""
    text = re.sub(r"\\[()\[\]]|\$\$", " ", text)
    return re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"\1 ÷ \2", text)


def _power(exponent: str, chinese: bool) -> str:
    if chinese:
        return f"的{exponent}次方"
    return {"2": " squared", "3": " cubed"}.get(exponent, f" to the power of {exponent}")


def _area(unit: str, power: str, chinese: bool) -> str:
    word = _UNITS[unit][chinese]
    if chinese:
        return f"{'平方' if power == '2' else '立方'}{word}"
    return f" {'square' if power == '2' else 'cubic'} {word}"


def _greek(letter: str, chinese: bool) -> str:
    if letter == "π":
        return "派" if chinese else " pi "
    return f" {unicodedata.name(letter).split()[3].lower()} ".replace("lamda", "lambda")
