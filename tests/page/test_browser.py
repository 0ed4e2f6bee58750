"""The page in a real browser, against real servers: `tests/page/browser`, driven by playwright-core from npm."""

import json
import os
from pathlib import Path

import jiwer
import pytest
import soundfile

from tests.support.browsing import PAGE, node, what_is_missing
from tests.support.hearing import heard_words, words
from tests.support.served import TINY_VITA
from tests.support.sounds import RATE, cough, speech

pytestmark = [pytest.mark.real, pytest.mark.alone]
TESTS = PAGE / "browser"


@pytest.fixture(autouse=True)
def tools() -> None:
    """A machine that checks the code for everybody must have them."""
    if missing := what_is_missing():
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


def passes(file: Path, **environment: str) -> bool:
    return node("--test", "--test-reporter=spec", str(file), **environment) == 0


@pytest.mark.parametrize("name", sorted(file.name for file in TESTS.glob("*.test.mjs")))
def test_the_page_in_a_browser(name: str) -> None:
    assert passes(TESTS / name)


def test_the_ability_page_with_the_tiny_vita() -> None:
    server = json.dumps(["configs/vita-4gpu.yaml", *(flag for setting in TINY_VITA for flag in ("--set", setting))])
    assert passes(TESTS / "ability.test.mjs", ABILITY_SERVER=server)


@pytest.mark.smoke
def test_what_the_default_models_say_through_the_page_is_what_it_shows(tmp_path: Path) -> None:
    assert node(str(TESTS / "spoken.mjs"), "configs/cpu.yaml", str(tmp_path)) == 0
    seen = json.loads((tmp_path / "shown.json").read_text())
    assert jiwer.wer("go forward ten meters", words(seen["asked"])) <= 0.25
    heard, rate = soundfile.read(tmp_path / "heard.wav", dtype="float32")
    assert jiwer.wer(words(seen["shown"]), heard_words(heard, rate)) <= 0.2


def test_an_mm_hm_and_a_cough_leave_the_answer_of_the_default_models_as_it_was(tmp_path: Path) -> None:
    """Every sample that was sent is played once, and the words are those of the answer that was left alone. The samples
    need not be: where an answer is cut into pieces for the voice depends on when its words come."""
    for name, samples in (("mm-hm", speech("Mm-hm.")), ("cough", cough())):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="PCM_16")
    recordings = [str(tmp_path / name) for name in ("mm-hm", "cough")]
    assert node(str(TESTS / "unmoved.mjs"), "configs/cpu.yaml", str(tmp_path), *recordings) == 0
    alone, *disturbed = json.loads((tmp_path / "seen.json").read_text())
    assert alone["held"] == 0
    assert disturbed[0]["held"] > 0
    for seen in disturbed:
        assert seen["loudest"] > 3000, "the microphone heard nothing"
        assert (seen["held"], seen["played"]) == (seen["resumed"], seen["sent"])
        assert (seen["status"], seen["words"]) == (["completed"], alone["words"])
