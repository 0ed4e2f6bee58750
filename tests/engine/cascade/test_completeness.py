"""Whether the words so far are all there will be."""

import csv
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.support import sounds
from tests.support.overlaps import Storyteller
from tests.support.virtual_time import run
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.completeness import CLOSED, DOUBTFUL, OPEN, completeness
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.messages import Query, Utterance, Verdict
from vita_duplex.engine.ports import Transcript


@pytest.mark.parametrize(
    "text",
    [
        "Who painted the", "I was born in the spring of", "Tell me about", "He left because", "Put it into",
        "I need a recipe for", "What I wanted to know was if", "What is a", "It was such", "Give me a short",
        "Yesterday I", "Do you know where", "I often wonder what", "He said that she would", "Play something by, um,",
    ],
)  # fmt: skip
def test_after_these_more_is_to_come(text: str) -> None:
    assert completeness(text) == OPEN


@pytest.mark.parametrize(
    "text",
    [
        "Who are you talking to?",
        "I would like to",
        "Since when?",
        "What can you do?",
        "Tell me more.",
        "Ten of clubs,",
        "Yes, it is.",
    ],
)
def test_after_these_it_may_be(text: str) -> None:
    assert completeness(text) == DOUBTFUL


@pytest.mark.parametrize(
    "text",
    [
        "What is it made of?", "Turn it on.", "Why?", "Stop.", "Hmm.", "Um.", "Mm-hm.", "The", "You", "",
        "How old is he?",
        "Give me a recipe for pancakes.", "Is it big?", "What is seven plus three?",
    ],
)  # fmt: skip
def test_these_say_nothing_against_an_end(text: str) -> None:
    assert completeness(text) == CLOSED


@pytest.mark.parametrize(
    "text",
    [
        "Zero one seven two.", "Three, four, five.", "O791.", "My number is 0172", "My number is five-five, one-two.",
        "The code is 345", "It's double four six", "John dot doe", "info at blue dot",
    ],
)  # fmt: skip
def test_after_a_group_of_digits_or_half_an_address_more_may_come(text: str) -> None:
    assert completeness(text) == DOUBTFUL


@pytest.mark.parametrize(
    "text",
    [
        "Forty two.", "Seven.", "It costs 350.", "It was in 1999.", "Two or three.", "At half past nine.",
        "Zero one seven two, three four five, six seven eight.", "john dot doe at mail dot com", "What is 3 plus 4?",
    ],
)  # fmt: skip
def test_a_number_that_is_no_dictation_is_whole(text: str) -> None:
    assert completeness(text) == CLOSED


def test_of_sentences_that_are_whole_few_wait_for_more() -> None:
    with Path("tests/data/overlaps.tsv").open(encoding="utf-8") as file:
        said = {row["what"] for row in csv.DictReader(file, delimiter="\t") if row["what"].endswith((".", "?", "!"))}
    assert len(said) > 100
    assert sum(completeness(text) < CLOSED for text in said) <= 0.05 * len(said)


def test_the_cpu_default_tells_what_it_makes_of_the_words() -> None:
    class Ears:
        async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
            return Transcript("What is the", -0.1)

    async def script() -> Verdict:
        cascade = Cascade("a", Ears(), Judge(), Storyteller())  # type: ignore[arg-type]
        async with aclosing(cascade.answer(Query((), (Utterance(1, sounds.silence(1.0)),)))) as items:
            verdict = await anext(items)
        assert isinstance(verdict, Verdict)
        return verdict

    assert run(script()).finished == OPEN
