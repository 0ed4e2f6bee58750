"""Say formulas in words: operators, powers, functions and Greek letters, and only where a formula stands. Pure.

What is said is what the original VITA demo wanted to say (`sin` as "sine", α as "alpha", `x^2` as "x的2次方"). It
replaced these strings anywhere, also inside of words ("cost", "well-known"); here an operator needs operands beside it.
"""

import re
import unicodedata
from typing import Literal

Language = Literal["en", "zh"]

_OPERATORS: dict[str, tuple[str, str]] = {
    "=": ("equals", "等于"),
    "≠": ("is not equal to", "不等于"),
    ">": ("is greater than", "大于"),
    "<": ("is less than", "小于"),
    "≥": ("is greater than or equal to", "大于等于"),
    "≤": ("is less than or equal to", "小于等于"),
    "≈": ("is about", "约等于"),
    "+": ("plus", "加"),
    "-": ("minus", "减"),
    "×": ("times", "乘"),
    "÷": ("divided by", "除以"),
    "±": ("plus or minus", "正负"),
    "→": ("to", "到"),
    "√": ("the square root of", "根号"),
    "∞": ("infinity", "无穷大"),
}
_SPELLINGS = {"!=": "≠", "==": "=", ">=": "≥", "<=": "≤", "~=": "≈", "->": "→", "=>": "→", "⇒": "→", "−": "-", "⋅": "×"}
_FUNCTIONS = {
    "sin": "sine",
    "cos": "cosine",
    "tan": "tangent",
    "cot": "cotangent",
    "sec": "secant",
    "csc": "cosecant",
    "log": "logarithm",
    "ln": "natural logarithm",
    "sqrt": "square root",
    "abs": "absolute value",
}
_CHINESE_FUNCTIONS = {"sqrt": "根号", "abs": "绝对值"}
_LATEX = {"times": "×", "cdot": "×", "div": "÷", "pm": "±", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠",
          "ne": "≠", "approx": "≈", "to": "→", "rightarrow": "→", "infty": "∞", "left": "", "right": "", "circ": "°",
          "quad": " ", "text": "", "mathrm": "", "mathbf": ""}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_VARIABLE = r"(?<![^\W\d_])[A-Za-zα-ωΑ-Ω](?![^\W\d_])"
_NUMBER = r"\d+(?:[.,]\d+)*%?"
_LEFT = re.compile(rf"(?:{_NUMBER}|{_VARIABLE}|[)\]∞°])\s*$")
_RIGHT = re.compile(rf"\s*(?:-?{_NUMBER}|-?{_VARIABLE}|[(\[√∞]|-?(?:{'|'.join(_FUNCTIONS)}|exp)\b)")
_OPERATOR = re.compile(r"\s*(!=|==|>=|<=|~=|->|=>|[=≠<>≥≤≈+\-−*×⋅·÷/±→⇒√∞])\s*")
_CERTAIN = re.compile(r"[=≠≥≤≈×÷±√^]|[^\W\d_]\s*[+*]|\d\s*[+*]")
_CALL = re.compile(rf"(?<![A-Za-z])({'|'.join(_FUNCTIONS)}|exp)\(([^()]*)\)")
_APPLIED = re.compile(
    r"(?<![A-Za-z])(sin|cos|tan|cot|log|ln)\s?(?=[α-ωΑ-Ω]|(?<=\s)[b-hj-z]\b)|(?<![A-Za-z])(sin|cos|tan)\s(?=\d)"
)
_RAISED = re.compile(r"(?<![A-Za-z])(sin|cos|tan)(\^-?\d+)\s?(?=[\w(])")
_POWER = re.compile(r"(?<=[\w)\]])\s?\^\s?(?:\{([^}]*)\}|\(([^)]*)\)|(-?(?:\d+(?:\.\d+)?|[A-Za-zα-ω])))")
_AREA = re.compile(r"(?<=\d)\s?(km|cm|mm|m|ft|mi)(?:\^(2|3)|([²³]))(?!\w)")
_UNITS = {"km": ("kilometers", "公里"), "m": ("meters", "米"), "cm": ("centimeters", "厘米"),
          "mm": ("millimeters", "毫米"), "ft": ("feet", "英尺"), "mi": ("miles", "英里")}  # fmt: skip


def in_words(text: str, language: Language) -> str:
    """The text with its formulas in words; numbers and ranges stay as they are written."""
    chinese = language == "zh"
    text = _latex(text).translate(_SUBSCRIPTS)
    text = _AREA.sub(lambda m: _area(m[1], m[2] or m[3].translate(_SUPERSCRIPTS), chinese), text)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    if _CERTAIN.search(text):
        # WeText would take 2x for "two times"; it does not know X.
        text = re.sub(r"(?<=\d)x(?![A-Za-z])", " X", text)
    text = re.sub(r"(?<=[\w)])\)\((?=\w)", ")×(", text)  # f(3)(4) is a product
    text = _operators(text, chinese)
    while (called := _CALL.sub(lambda m: _call(m[1], m[2], chinese), text)) != text:
        text = called
    text = _APPLIED.sub(lambda m: _named(m[1] or m[2], chinese) + " ", text)
    text = _RAISED.sub(lambda m: f"{_FUNCTIONS[m[1]]}{m[2]} ", text)
    text = _POWER.sub(lambda m: _power(m[1] or m[2] or m[3], chinese), text)
    text = re.sub(r"(?<![Ͱ-Ͽ])[α-ωΑ-Ω](?![Ͱ-Ͽ])", lambda m: _greek(m[0], chinese), text)
    return " ".join(text.split())


def _latex(text: str) -> str:
    if "\\" not in text and "$" not in text:
        return text
    text = re.sub(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", lambda m: m[1] or m[2] or m[3], text)
    text = re.sub(r"\$([^$\d\s][^$]*?)\$(?!\d)", r"\1", text)  # not "$5 and $6"
    text = re.sub(r"\\sqrt\{([^{}]*)\}", r"√\1", text)
    text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"\1 ÷ \2", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda m: _latex_name(m[1]), text)
    return re.sub(r"(?<!\^)\{([^{}]*)\}", r"\1", text).replace("\\", " ")


def _latex_name(name: str) -> str:
    if name in _LATEX:
        return _LATEX[name]
    try:
        return unicodedata.lookup(f"GREEK {'CAPITAL' if name[0].isupper() else 'SMALL'} LETTER {name.upper()}")
    except KeyError:
        return name


def _operators(text: str, chinese: bool) -> str:
    certain = _CERTAIN.search(text) is not None

    def said(match: re.Match[str]) -> str:
        sign = _SPELLINGS.get(match[1], match[1])
        left = _LEFT.search(text[max(0, match.start() - 12) : match.start()]) is not None
        right = _RIGHT.match(text, match.end()) is not None
        if sign in "*·":
            sign = "×"
            if not (left and right):
                return match[0]
        if sign in "<>" and right and match[0] == f" {sign} " and not left:
            return f" {_OPERATORS[sign][chinese].removeprefix('is ')} "  # "must be > 0"
        if sign in "<>+" and not (left and right):
            return match[0]
        if sign == "/":
            # "24/7", "km/h", "and/or" and "A/B" are no divisions; fractions of numbers are read elsewhere.
            letters = re.search(r"[\dA-Za-z]$", text[: match.start()]) and re.match(r"[\dA-Za-z]", text[match.end() :])
            if not (left and right and (not letters or match[0] != "/")):
                return match[0]
            sign = "÷"
        if sign == "-":
            if certain and right and not left and match[0] in ("-", " -") and not text[match.end()].isdigit():
                return "负" if chinese else " minus "
            if not (left and right and certain) or (match[0] == "-" and "=" not in text and "^" not in text):
                return match[0]
        word = _OPERATORS[sign][chinese]
        return word if chinese else f" {word} "

    return _OPERATOR.sub(said, text)


def _named(name: str, chinese: bool) -> str:
    word = _CHINESE_FUNCTIONS.get(name) if chinese else None
    return word or (_FUNCTIONS[name] if chinese else f"{_FUNCTIONS[name]} of")


def _call(name: str, argument: str, chinese: bool) -> str:
    if name == "exp":
        return f"e{_power(argument, chinese)}"
    return f"{_named(name, chinese)} {argument}"


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
