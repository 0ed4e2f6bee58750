"""Reasoning text is neither said nor shown, wherever its marks are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.engine.instances.thoughts import Thoughts, opened, thinks

PAIRS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</Thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
]


def answer(deltas: list[str], inside: bool = False) -> str:
    thoughts = Thoughts(inside)
    return "".join([*map(thoughts.push, deltas), thoughts.finish()])


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_a_thought_is_no_answer_wherever_its_marks_are_cut(opening: str, closing: str) -> None:
    text = f"{opening}They greet me. 1 < 2 [so] I greet back.{closing}\n\nHello! 3 < 4 [as said] <b>now</b>."
    for size in range(1, len(text) + 1):
        deltas = [text[at : at + size] for at in range(0, len(text), size)]
        assert answer(deltas) == "Hello! 3 < 4 [as said] <b>now</b>.", size


def test_a_thought_that_never_closes_leaves_nothing_to_say() -> None:
    assert answer(["<think>I should", " greet. Then"]) == ""
    assert answer(["Hello. <thi", "nk>And now"]) == "Hello. "


def test_a_thought_that_the_prompt_has_opened_needs_no_opening() -> None:
    assert answer(["They greet me.</th", "ink>\n\nHello!"], inside=True) == "Hello!"
    assert opened("<｜Assistant｜><think>\n")
    assert not opened("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opened("<|im_start|>user\nWhat does <think> mean?<|im_end|>\n<|im_start|>assistant\n")


def test_several_thoughts_and_a_mark_that_closes_nothing_are_left_out() -> None:
    assert answer(["One. <think>a</think>Two. ", "<thinking>b</thinking>Three.</think>"]) == "One. Two. Three."


@given(st.lists(st.text("a <[>]/|k", max_size=6), max_size=12))
def test_text_without_thoughts_comes_out_as_it_went_in(deltas: list[str]) -> None:
    assert answer(deltas) == "".join(deltas)


def test_words_wait_for_nothing_but_the_beginning_of_a_mark() -> None:
    thoughts = Thoughts()
    deltas = ["Hello", " there", " <", "3 you", "!", "<think>a</thi", "nk>", "Bye"]
    assert [thoughts.push(delta) for delta in deltas] == ["Hello", " there", " ", "<3 you", "!", "", "", "Bye"]


@pytest.mark.parametrize("template", ["{% if '</think>' in content %}", "[THINK]", "<|channel|>"])
def test_a_template_that_knows_thoughts_is_known(template: str) -> None:
    assert thinks(template)
    assert not thinks("{% for message in messages %}{{ message.content }}{% endfor %}")
