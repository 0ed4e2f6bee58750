"""Where an answer is long enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.engine.instances.sentence_limit import SentenceLimit


def spoken(text: str, n: int, size: int = 1) -> str:
    limit = SentenceLimit(n)
    return "".join(limit.push(text[i : i + size]) for i in range(0, len(text), size))


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("One. Two. Three.", 2, "One. Two."),
        ("Why? Because! Yes.", 2, "Why? Because!"),
        ("It costs 3.14 dollars. Really.", 1, "It costs 3.14 dollars."),
        ("Dr. Who met Mr. T. at e.g. noon. Then he left.", 1, "Dr. Who met Mr. T. at e.g. noon."),
        ("Wait... what? No.", 1, "Wait..."),
        ("Tea, milk etc. are here. More.", 1, "Tea, milk etc. are here."),
        ("It was not I. It was you.", 1, "It was not I."),
        ('He said "stop." Then left.', 1, 'He said "stop."'),
        ("Do this:\n\n1. Boil it.\n2. Eat it.\n3. Done.", 3, "Do this:\n\n1. Boil it.\n2. Eat it."),
        ("你好。我很好。再见。", 2, "你好。我很好。"),
        ("No end in sight", 1, "No end in sight"),
        ("\n\nLate start. And more.", 1, "\n\nLate start."),
    ],
)
def test_an_answer_ends_with_its_last_allowed_sentence(text: str, n: int, expected: str, size: int) -> None:
    assert spoken(text, n, size) == expected


@given(st.text(alphabet="ab.?! \n1。", max_size=60), st.integers(1, 4), st.integers(1, 7))
def test_what_is_said_is_a_beginning_of_the_text_however_it_arrives(text: str, n: int, size: int) -> None:
    said = spoken(text, n, size)
    assert text.startswith(said)
    assert spoken(text, n + 1, size).startswith(said)


def test_text_is_not_held_back() -> None:
    limit = SentenceLimit(2)
    assert [limit.push(piece) for piece in ("Hi", ".", " You", ".", " And", " more")] == [
        "Hi",
        ".",
        " You",
        ".",
        "",
        "",
    ]
    assert limit.left == 0
