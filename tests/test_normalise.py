"""Written text becomes text that can be said."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.tts.normalise import normalise


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It is ten.", "It is ten."),
        ("", ""),
        (" \n\t ", ""),
        ("  two   spaces\nand a line ", "two spaces and a line"),
        ("**bold** and *slanted* and __bold__ and _slanted_", "bold and slanted and bold and slanted"),
        ("~~gone~~ ***both***", "gone both"),
        ("2 * 3 * 4 = 24", "2 * 3 * 4 = 24"),
        ("a_variable_name stays", "a_variable_name stays"),
        ("2*3*4 stays", "2*3*4 stays"),
        ("# Heading", "Heading"),
        ("### Heading", "Heading"),
        ("C# is a language, #1 is a number", "C# is a language, #1 is a number"),
        ("- one\n- two\n* three\n+ four", "one two three four"),
        ("1. one\n2) two", "one two"),
        ("1999. A year", "1999. A year"),
        ("well-known - a dash", "well-known - a dash"),
        ("use `print` here", "use print here"),
        ("before ```python\nprint(1)\n``` after", "before after"),
        ("before ```never closed\nprint(1)", "before"),
        ("see [the page](https://example.com/x) now", "see the page now"),
        ("![a cat](cat.png)", "a cat"),
        ("go to https://example.com/a?b=c now", "go to a link now"),
        ("Great! 🎉👍🏽 Yes ☀️", "Great! Yes"),
        ("👨‍👩‍👧", ""),
        ("🇩🇪 Germany", "Germany"),
        ("<1>Hello<2><3>", "Hello"),
        ("1 < 2 > 1", "1 < 2 > 1"),
        ("...", ""),
        ("?!", ""),
        ("***", ""),
        ("3.14 is pi, 50% of $5", "3.14 is pi, 50% of $5"),
        ("你好。", "你好。"),
        ("Ça va? Größe – naïve", "Ça va? Größe – naïve"),
    ],
)
def test_what_is_said(written: str, said: str) -> None:
    assert normalise(written) == said


@settings(deadline=None, max_examples=120)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from("*_`#[]()<>123-. \n"), max_size=60))
def test_there_is_either_something_to_say_or_nothing(text: str) -> None:
    said = normalise(text)
    assert said == said.strip()
    assert said == "" or any(character.isalnum() or character == "_" for character in said)
    assert "  " not in said
