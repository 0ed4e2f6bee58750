"""Written text becomes text that can be said: `spoken_text.tsv` has a line per case; `\\n` stands for a line's end."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.paths import DATA
from vita_duplex.tts.text.normalise import language_of, normalise
from vita_duplex.tts.text.reading import half_width

CASES = [line.split("\t") for line in (DATA / "spoken_text.tsv").read_text(encoding="utf-8").splitlines()[1:]]


def test_there_are_cases_in_both_languages() -> None:
    chinese = sum(bool(re.search("[一-鿿]", written)) for written, _ in CASES)
    assert len(CASES) - chinese >= 150
    assert chinese >= 80


@pytest.mark.parametrize(("written", "said"), CASES)
def test_what_is_said(written: str, said: str) -> None:
    assert normalise(written.replace("\\n", "\n")) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", ""),
        (" \n\t ", ""),
        ("  two   spaces\nand a line ", "two spaces and a line"),
        ("...", ""),
        ("?!", ""),
        ("👨‍👩‍👧", ""),
        ("before ```python\nprint(1)\n``` after", "before after"),
        ("before ```never closed\nprint(1)", "before"),
    ],
)
def test_nothing_to_say_is_nothing(written: str, said: str) -> None:
    assert normalise(written) == said


def test_a_piece_without_words_is_read_in_the_language_before_it() -> None:
    assert normalise("2+3=5", "zh") == "二加三等于五"
    assert normalise("2+3=5", "en") == "two plus three equals five"
    assert [language_of(text, "zh") for text in ("2+3=5", "Good.", "好。")] == ["zh", "en", "zh"]


# Words of ordinary prose in which a replacement anywhere would find something to replace.
TEMPTING = """
    cost cosine expert absolute since using sinning tangle cotton second logical explain abstract sqrt-like piece minus
    well-known mother-in-law e-mail he's don't o'clock naïve Größe I a x-ray A and/or alpha NASA U.K. May march in am
    成本 专家 绝对 由于 正弦 今天 我们 减少 加油 等于 乘客 除了 大于 小于 一 二 三 两个 百分 幺 千 点 年 月 号
"""
words = st.sampled_from(TEMPTING.split()) | st.from_regex(r"[A-Za-z]{1,12}|[一-鿿]{1,6}", fullmatch=True)


def kept(text: str) -> str:
    return re.sub(r"\s", "", text)


@settings(deadline=None, max_examples=80)
@given(st.lists(words, min_size=1, max_size=12), st.sampled_from([" ", "  ", "\n", ", ", "。", "，", "! "]))
def test_nothing_but_white_space_is_lost_from_plain_words(some: list[str], between: str) -> None:
    text = between.join(some) + "."
    assert kept(normalise(text)) == kept(text)


written = st.sampled_from(["7", "3.5", "20%", "$5", "2024", "x^2", "π", "3+4=7"])


@settings(deadline=None, max_examples=80)
@given(st.lists(words | written, min_size=1, max_size=9))
@example(["a", "3+4=7", "x-ray"])
def test_words_of_four_letters_beside_numbers_and_formulas_are_kept(some: list[str]) -> None:
    said = normalise(" ".join(some)).casefold()
    for word in some:
        if not re.search(r"[\d^π]", word):
            assert all(part in said for part in re.findall(r"\w{4,}", word.casefold())), said


@settings(deadline=None, max_examples=80)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("*_`#[]()<>^\\$|=+-/123. \n，。年"), max_size=60))
@example("x^")
@example("\\frac{1}{\\sqrt{")
def test_there_is_either_something_to_say_or_nothing(text: str) -> None:
    said = normalise(text)
    assert said == said.strip()
    assert said == "" or any(character.isalnum() or character == "_" for character in said)
    assert "  " not in said


def test_full_width_digits_and_letters_are_read_like_their_plain_forms() -> None:
    assert half_width("１２３ＡｂＣ％＋＝，。") == "123AbC%+=，。"
