"""What the CPU default's parts tell each other."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np
import pytest

from tests.support.virtual_time import run
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.instances.text_model import TemplateMessage
from vita_duplex.engine.messages import Query, Situation, Utterance, Verdict
from vita_duplex.engine.ports import Transcript


class HearsOkay:
    """An ASR that hears one word, whatever is said."""

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        return Transcript("Okay.", -0.1)


class SaysNothing:
    calls = False

    async def reply(self, messages: Sequence[TemplateMessage], *asked: object) -> AsyncGenerator[str]:
        return
        yield

    class config:
        max_tokens = 10


def verdict(situation: Situation) -> Verdict:
    """What the cascade makes of "Okay." in a situation."""
    said = Utterance(1, np.zeros(INPUT_RATE, np.float32))

    async def script() -> Verdict:
        cascade = Cascade("a", HearsOkay(), Judge(), SaysNothing())  # type: ignore[arg-type]
        async with aclosing(cascade.answer(Query((), (said,), situation=situation))) as items:
            item = await anext(items)
        assert isinstance(item, Verdict)
        return item

    return run(script())


@pytest.mark.parametrize(
    ("situation", "meant"),
    [
        (Situation("after", 1.0, "Shall I go on?"), True),
        (Situation("after", 1.0, "It is five o'clock."), False),
        (Situation("after", 60.0, "Shall I go on?"), False),
        (Situation("speaking", 0.0, "Shall I go on?"), False),
        (Situation(), False),
    ],
)
def test_the_judge_is_told_what_the_words_were_said_into(situation: Situation, meant: bool) -> None:
    assert (verdict(situation).p1 >= 0.5) is meant


@pytest.mark.parametrize(
    ("text", "log_probability", "seconds", "least", "most"),
    [
        ("Go pop.", -1.1, 0.7, 0.4, 0.5),
        ("What's the feeling?", -0.9, 0.7, 0.4, 0.5),
        ("", 0.0, 0.7, 0.4, 0.5),
        ("And", -0.1, 0.8, 0.4, 0.5),
        ("I", -0.1, 0.8, 0.4, 0.5),
        ("Mm-hm.", -0.3, 0.7, 0.0, 0.1),
        ("Anna, could you", -0.2, 1.0, 0.0, 0.2),
        ("Stop.", -0.2, 0.7, 0.92, 1.0),
        ("What is the capital of", -0.1, 1.5, 0.6, 0.9),
        ("", 0.0, 2.5, 0.0, 0.1),
    ],
)
def test_a_glance_is_sure_only_of_what_no_further_word_can_change(
    text: str, log_probability: float, seconds: float, least: float, most: float
) -> None:
    assert least <= Judge().glance(Transcript(text, log_probability), seconds) <= most
