"""Text deltas become pieces that can be spoken: whole sentences, and a clause first."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.engine.joining import joined
from vita_duplex.tts.text.sentences import LONGEST_CHARS, LONGEST_WIDE_CHARS, SILENCE_S, Sentences


def pieces(*deltas: str) -> list[str]:
    sentences = Sentences()
    return [piece for delta in deltas for piece in sentences.push(delta, 0.0)] + sentences.finish()


def later(text: str) -> list[str]:
    """The pieces of a text that is not the beginning of a reply, where no clause is wanted."""
    first, *rest = pieces("Yes. ", text)
    assert first == "Yes."
    return rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is ten. It is late! Is it? Yes.", ["It is ten.", "It is late!", "Is it?", "Yes."]),
        ("Pi is 3.14 or so. Good.", ["Pi is 3.14 or so.", "Good."]),
        ("Version 1.2.3 came in 2024. It works.", ["Version 1.2.3 came in 2024.", "It works."]),
        ("Ask Dr. Smith or Mrs. Jones. They know.", ["Ask Dr. Smith or Mrs. Jones.", "They know."]),
        ("Fruit, e.g. apples, i.e. food. Eat.", ["Fruit, e.g. apples, i.e. food.", "Eat."]),
        ("J. R. Tolkien wrote it. I did not.", ["J. R. Tolkien wrote it.", "I did not."]),
        ("It was him, not I. She knew.", ["It was him, not I.", "She knew."]),
        ("1. Boil water. 2. Add tea.", ["1. Boil water.", "2. Add tea."]),
        ("Steps:\n1. Boil water\n2. Add tea\n", ["Steps:", "1. Boil water", "2. Add tea"]),
        ("Well… I do not know. Maybe...  not.", ["Well…", "I do not know.", "Maybe...", "not."]),
        ('He said "Go." Then he left.', ['He said "Go."', "Then he left."]),
        ("(It rained.) So we stayed.", ["(It rained.)", "So we stayed."]),
        ("What?! No!!! Really.", ["What?!", "No!!!", "Really."]),
        ("See example.com for more. Bye.", ["See example.com for more.", "Bye."]),
        ("你好。今天天气怎么样？很好！", ["你好。", "今天天气怎么样？", "很好！"]),
        ("他说：“走吧。”然后走了。", ["他说：“走吧。”", "然后走了。"]),
        (
            "The U.S. and the U.K. agree at 5 p.m. today. Good.",
            ["The U.S. and the U.K. agree at 5 p.m. today.", "Good."],
        ),
        ("圆周率是3.14。大约。", ["圆周率是3.14。", "大约。"]),
        ("第一句！第二句？！第三句……第四句", ["第一句！", "第二句？！", "第三句……第四句"]),
        ("“你好！”他说。", ["“你好！”", "他说。"]),
        ("no punctuation at all", ["no punctuation at all"]),
        ("A sentence. And a tail", ["A sentence.", "And a tail"]),
        ("   \n \n", []),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, expected: list[str]) -> None:
    assert later(text) == expected


def test_a_sentence_is_given_out_as_soon_as_its_end_is_certain() -> None:
    sentences = Sentences()
    assert [sentences.push(delta, 0.0) for delta in ("It is ", "ten", ".", " Good", ".", " ")] == [
        [], [], [], ["It is ten."], [], ["Good."],
    ]  # fmt: skip


def test_a_number_split_between_deltas_is_no_end() -> None:
    assert pieces("Pi is 3", ".", "14 or so", ".") == ["Pi is 3.14 or so."]


def test_the_first_clause_comes_early_and_only_the_first() -> None:
    sentences = Sentences()
    assert sentences.push("Of course I can, ", 0.0) == ["Of course I can,"]
    assert sentences.push("for example, this, and that, too. ", 0.0) == ["for example, this, and that, too."]


def test_a_first_clause_of_a_word_or_two_is_too_choppy() -> None:
    assert pieces("Well, yes, I think so. Bye.") == ["Well, yes, I think so.", "Bye."]
    assert pieces("As you say, I think so.") == ["As you say,", "I think so."]
    assert pieces("Unquestionably so, I think so.") == ["Unquestionably so, I think so."]
    assert pieces("你好，我在这里。好。") == ["你好，我在这里。", "好。"]
    assert pieces("当然可以，我在这里，你呢？好。") == ["当然可以，", "我在这里，你呢？", "好。"]


def test_a_long_first_phrase_is_cut_before_a_conjunction() -> None:
    text = "The old lighthouse on the northern coast stands alone and nobody has lived in it for years."
    assert pieces(text) == [
        "The old lighthouse on the northern coast stands alone",
        "and nobody has lived in it for years.",
    ]


def test_an_endless_line_is_cut_at_a_space() -> None:
    cut = later("word " * 200)
    assert [len(piece) for piece in cut] == [239, 239, 239, 239, 39]
    assert later("x" * 500) == ["x" * 240, "x" * 240, "x" * 20]


def test_a_sentence_that_comes_in_one_delta_is_no_longer_than_one_that_comes_in_words() -> None:
    text = "word " * 99 + "word. And more. "
    assert later(text) == pieces("Yes. ", *re.findall(r"\S+\s*", text))[1:]


def test_an_endless_chinese_line_is_cut_sooner_and_at_a_comma() -> None:
    assert [len(piece) for piece in later("一" * 200)] == [LONGEST_WIDE_CHARS, LONGEST_WIDE_CHARS, 40]
    assert later("一二三四，" * 30)[0] == "一二三四，" * 16
    assert later("word, " * 60)[0] == ("word, " * 40).strip()


def stalled(text: str, *, first: bool = True) -> list[list[str]]:
    """What is given out just before and just after so much silence, and at the end."""
    sentences = Sentences()
    if not first:
        assert sentences.push("Yes. ", 0.0) == ["Yes."]
    assert sentences.push(text, 1.0) == []
    at = 1.0 + SILENCE_S
    return [sentences.tick(at - 0.001), sentences.tick(at), sentences.tick(at + 9), sentences.finish()]


@pytest.mark.parametrize(
    ("text", "now", "rest"),
    [
        ("Let me think about", ["Let me think"], ["about"]),  # the last word may go on
        ("Let me think ", ["Let me think"], []),
        ("Let me", [], ["Let me"]),
        ("Yes.", ["Yes."], []),
        ("Pi is 3.", [], ["Pi is 3."]),  # it may be 3.14
        ("Ask Dr.", [], ["Ask Dr."]),
        ("我想一下", ["我想一下"], []),
        ("好", [], ["好"]),
        ("```python", [], ["```python"]),
    ],
)
def test_when_the_text_falls_silent_what_is_there_is_given_out(text: str, now: list[str], rest: list[str]) -> None:
    assert stalled(text) == [[], now, [], rest]


def test_later_pieces_stay_whole_sentences_however_long_it_takes() -> None:
    assert stalled("Let me think about", first=False) == [[], [], [], ["Let me think about"]]
    assert stalled("That is it.", first=False) == [[], ["That is it."], [], []]


def test_every_delta_begins_the_silence_anew() -> None:
    sentences = Sentences()
    sentences.push("Let me think ", 0.0)
    sentences.push("about it ", 0.2)
    assert (sentences.tick(SILENCE_S), sentences.deadline) == ([], 0.2 + SILENCE_S)
    assert sentences.tick(0.2 + SILENCE_S) == ["Let me think about it"]
    assert sentences.deadline is None


def test_chinese_pieces_are_joined_as_they_were_cut() -> None:
    for text in (
        "当然可以，我在这里。你呢？“好！”我说。",
        "Of course, I can. And you? Good.",
        "好的。Python is good. 是的。",
    ):
        assert joined(pieces(text)) == text.replace("。P", "。P")


def test_what_cannot_be_said_is_still_text() -> None:
    assert pieces("Great! 🎉 ... Bye.") == ["Great!", "🎉 ...", "Bye."]
    assert pieces("🎉") == ["🎉"]
    assert pieces("... Of course I can, if you want.") == ["...", "Of course I can,", "if you want."]


snippets = st.sampled_from([
    "word", "Dr.", "e.g.", "3.14", "1.", "1999.", "“quoted.”", '"Go."', "(so.)", "…", "...", "?!", ".", ",", ";", ":", 
    "–", " ", "\n", "\n\n", "  ", "and", "你好", "。", "，", "！”", "🙂", "*bold*", "a" * 250, "long " * 60, "\u00a0",
])  # fmt: skip
texts = st.lists(snippets | st.text(max_size=5), max_size=25).map("".join) | st.lists(snippets, max_size=25).map(
    " ".join
)


def without_spaces(text: str) -> str:
    return "".join(text.split())


@settings(deadline=None, max_examples=120)
@given(texts, st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_no_text_is_lost_however_it_is_split(text: str, sizes: list[int]) -> None:
    deltas, at = [], 0
    while at < len(text):
        deltas.append(text[at : at + sizes[len(deltas) % len(sizes)]])
        at += len(deltas[-1])
    for cut in (pieces(*deltas), pieces(text)):
        assert without_spaces("".join(cut)) == without_spaces(text)
        assert without_spaces(joined(cut)) == without_spaces(text)
        assert all(piece == piece.strip() != "" for piece in cut)
        assert all(len(piece) <= LONGEST_CHARS for piece in cut)


@settings(deadline=None, max_examples=100)
@given(texts)
def test_nothing_is_left_after_the_end(text: str) -> None:
    sentences = Sentences()
    sentences.push(text, 0.0)
    sentences.finish()
    assert sentences.finish() == []
