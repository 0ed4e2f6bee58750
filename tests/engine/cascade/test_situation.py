"""The judge on events with their context, `tests/data/verdicts.txt`, heard by the default ASR."""

import os
import shutil
from collections import Counter

import pytest

from tests.support import sounds, verdicts
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.cascade.judge import Judge, asks_user
from vita_duplex.engine.messages import Situation
from vita_duplex.engine.ports import Transcript

VOICES = [program for program in ("flite", "espeak-ng") if shutil.which(program) is None]
needs_voices = pytest.mark.skipif(
    bool(VOICES) and not os.environ.get("CI"), reason=f"needs {' and '.join(VOICES)}: apt-get install flite espeak-ng"
)


def shares(part: str) -> dict[tuple[str, bool], float]:
    """Share judged right, by whether a reply was being heard and whether it was a query."""
    asr, judge = Moonshine(), Judge()
    right, all_ = Counter[tuple[str, bool]](), Counter[tuple[str, bool]]()
    for event in verdicts.read(part):
        samples = event.samples()
        p1 = judge.judge(asr.transcribe(samples), len(samples) / sounds.RATE, event.situation)
        kind = ("speaking" if event.situation.reply == "speaking" else "silence", event.is_query)
        all_[kind] += 1
        right[kind] += (p1 >= 0.5) == event.is_query
    return {kind: right[kind] / all_[kind] for kind in all_}


@pytest.mark.real
@needs_voices
def test_in_silence_people_are_answered_and_others_left_alone() -> None:
    """The part on which no rule was tuned; the bars are what was measured, less the noise of one event in twenty."""
    found = shares("check")
    assert found["silence", True] >= 0.88
    assert found["silence", False] >= 0.88
    assert found["speaking", False] >= 0.85


def test_no_text_is_in_both_parts() -> None:
    parts = {part: {event.what for event in verdicts.read(part) if event.what[0] != "@"} for part in ("rules", "check")}
    assert not parts["rules"] & parts["check"]
    assert len(verdicts.read("check")) + len(verdicts.read("check", "zh")) >= 150
    everything = [event for part in parts for language in ("en", "zh") for event in verdicts.read(part, language)]
    assert len(everything) >= 500
    assert sum(event.language == "zh" for event in everything) >= 120


@pytest.mark.parametrize(
    ("text", "asked", "meant"),
    [
        ("Okay.", "Shall I go on?", True),
        ("Okay.", "It is five o'clock.", False),
        ("Yeah.", "Do you want more?", True),
        ("Anna.", "What is your name?", True),
        ("Peter, Peter Miller.", "What is your name?", True),
        ("Peter, Peter Miller.", "Anything else?", False),
        ("John.doe at mail.com", "And your e-mail?", True),
        ("The bus didn't come.", "Why were you late?", True),
        ("I have a headache since yesterday.", "How can I help you?", True),
        ("Zero one seven two.", "Tell me your number.", True),
        ("Anna, could you close the window?", "Anything else?", False),
        ("The minister rejected the proposal.", "Good bye.", False),
        ("Mamma.", "Good bye.", False),
        ("Marble.", "Good bye.", False),
    ],
)
def test_the_same_words_are_a_nod_in_one_situation_and_an_answer_in_another(text: str, asked: str, meant: bool) -> None:
    judge, transcript = Judge(), Transcript(text, -0.1)
    assert (judge.judge(transcript, 1.5, Situation("after", 1.0, asked)) >= 0.5) is meant
    if len(text) < 10:
        assert judge.judge(transcript, 0.6, Situation("speaking", 0.0, asked)) < 0.5


def test_a_question_stays_open_for_a_while() -> None:
    judge, okay = Judge(), Transcript("Okay.", -0.1)
    assert judge.judge(okay, 0.6, Situation("after", 5.0, "Shall I go on?")) >= 0.5
    assert judge.judge(okay, 0.6, Situation("after", 60.0, "Shall I go on?")) < 0.5


@pytest.mark.parametrize(
    "asking", ["Shall I go on?", "要我继续吗？", "Please tell me your name.", "Now choose a colour."]
)
def test_what_asks_the_user(asking: str) -> None:
    assert asks_user(asking)
    assert not asks_user("It is five o'clock.")
