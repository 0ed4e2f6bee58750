"""The verdict of the CPU default: each rule on text, then the whole on real audio."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.support import judging, sounds
from tests.support.paths import ROOT
from vita_duplex.asr import moonshine
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.engine.cascade import wording
from vita_duplex.engine.cascade.judge import WEIGHTS, Judge
from vita_duplex.engine.ports import PartFailed, Transcript


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def p1(judge: Judge, text: str, log_probability: float = -0.1, seconds: float = 2.0) -> float:
    return judge.judge(Transcript(text, log_probability), seconds)


# Rules, on text


def test_silence_is_no_query(judge: Judge) -> None:
    assert p1(judge, "") < 0.05


@pytest.mark.parametrize("text", ["You", "Oh.", "So?", '"You"', "♪♪♪", "Thank you for watching!", "[Music]"])
def test_what_the_recogniser_invents_for_noise_is_no_query(judge: Judge, text: str) -> None:
    assert p1(judge, text) < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "Mm-hmm.",
        "Uh-huh.",
        "Yeah.",
        "Okay.",
        "Right?",
        "Mama.",
        "Oh, I see.",
        "Yeah, yeah, that makes sense.",
        "Um.",
    ],
)
def test_a_backchannel_is_no_query(judge: Judge, text: str) -> None:
    assert p1(judge, text) < 0.1


@pytest.mark.parametrize(
    "text", ["Stop.", "Wait!", "Cancel.", "Hello?", "Yes.", "No.", "Okay, stop.", "Louder, please."]
)
def test_one_word_may_be_a_query(judge: Judge, text: str) -> None:
    assert p1(judge, text) > 0.9


def test_an_uncertain_word_or_two_are_no_query(judge: Judge) -> None:
    assert p1(judge, "Cosferthai.", -1.7) < 0.05
    assert p1(judge, "Stop.", -1.3) < 0.5


def test_one_word_in_a_long_sound_is_no_query(judge: Judge) -> None:
    assert p1(judge, "Stop.", seconds=1.2) > 0.9
    assert p1(judge, "Stop.", seconds=6.0) < 0.05


@pytest.mark.parametrize(
    "text",
    [
        "What's the capital of Peru?",
        "Wait, what did you say?",
        "Okay, but how much is it",
        "Sorry, can you repeat that",
        "Do whales sleep.",
        "I'm allergic to nuts, what else could I bake.",
        "Tell me a story.",
        "Thank you. Now tell me about Saturn.",
        "No, the blue one.",
        "No, stop, I know that one.",
        "I'd like to hear some jazz.",
        '"Set a timer for ten minutes."',
    ],
)
def test_a_question_a_command_or_a_wish_is_a_query(judge: Judge, text: str) -> None:
    assert wording.asks(text)
    assert p1(judge, text) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "He was not an ill-disposed young man.",
        "Had he married a more amiable woman, he might have been made still more respectable than he was.",
        "When I was young, we had no telephone.",
        "What a lovely day.",
        "The bank raised its rates on Tuesday.",
        "I told her we would be late.",
    ],
)
def test_telling_something_is_no_query(judge: Judge, text: str) -> None:
    assert not wording.asks(text)
    assert p1(judge, text) < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Anna, could you close the window?",
        "Could you pass the salt, Tom?",
        "Could you move over a bit, Coren?",
        "Honey have you seen my keys.",
        "Hi Julia, how are you?",
        "Do you want another cup of tea?",
        "Did you lock the door?",
        "Put your shoes on!",
        "Alexa, what time is it?",
    ],
)
def test_talk_to_somebody_else_is_no_query(judge: Judge, text: str) -> None:
    assert wording.is_to_somebody_else(text)
    assert p1(judge, text) < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Hey Vita, what time is it?",
        "Say it in French, please.",
        "When did the wall come down?",
        "Who was Anna Freud?",
    ],
)
def test_names_and_verbs_that_call_nobody_do_not_hide_a_query(judge: Judge, text: str) -> None:
    assert not wording.is_to_somebody_else(text)
    assert p1(judge, text) > 0.5


def test_the_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 200_000


def test_no_text_of_the_set_is_among_the_training_texts() -> None:
    path = ROOT / "tools" / "train_judge.py"
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("train_judge", path)
    assert spec is not None
    assert spec.loader is not None
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)

    def key(text: str) -> str:
        return " ".join(wording.words(text))

    trained = {key(transcript.text) for transcript, _ in training.make_texts(12_000, seed=1)}
    said = {key(event.what) for event in judging.read("test") if event.kind == "speech"}
    assert len(said) > 100
    assert {text for text in said & trained if not wording.is_short_query(text.split())} == set()


# Ears, without and with their model


def test_pieces_of_the_vocabulary_are_joined_to_text() -> None:
    long = b"x" * 200
    data = b"\x05<unk>\x03<s>\x04</s>\x06\xe2\x96\x81Hel\x02lo" + bytes([128 + 200 % 128, 200 // 128]) + long
    pieces = moonshine.read_pieces(data)
    assert pieces[-1] == long
    assert moonshine.to_text([1, 3, 4, 2], pieces) == "Hello"


def test_a_phrase_that_goes_round_is_a_loop() -> None:
    assert moonshine.loops([1, 5, 6, 7] + [8, 9] * 4)
    assert not moonshine.loops([1, 5, 6, 7] + [8, 9] * 3)


def test_ears_without_their_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(PartFailed, match=r"moonshine-voice==0\.0\.73"):
        Moonshine(tmp_path)
    for name in moonshine.FILES:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(PartFailed, match="sha256"):
        Moonshine(tmp_path)


@pytest.fixture(scope="module")
def ears() -> Moonshine:
    pytest.importorskip("hibari")
    return Moonshine()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("goforward", "Go forward ten meters."),
        ("something", "Go somewhere and do something."),
        ("jfk-ask", "Ask what you can do for your country."),
        ("jfk-ask-not", "Ask not what your country can do for you."),
        ("sense-0930", "He might even have been made amiable himself."),
        ("card-003", "Seven of clubs."),
    ],
)
def test_people_are_understood(ears: Moonshine, name: str, text: str) -> None:
    heard = ears.transcribe(sounds.clip(name))
    assert heard.text == text
    assert -0.4 < heard.log_probability < 0


@pytest.mark.real
@pytest.mark.parametrize("name", ["goforward", "something", "jfk-ask", "jfk-ask-not"])
def test_people_who_want_something_are_taken(ears: Moonshine, judge: Judge, name: str) -> None:
    samples = sounds.clip(name)
    assert judge.judge(ears.transcribe(samples), samples.size / sounds.RATE) > 0.5


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "sense-0870",
        "sense-0880",
        "sense-0890",
        "sense-0920",
        "sense-0930",
        "card-001",
        "card-005",
        "jfk-americans",
    ],
)
def test_people_who_read_or_play_cards_are_not(ears: Moonshine, judge: Judge, name: str) -> None:
    samples = sounds.clip(name)
    assert judge.judge(ears.transcribe(samples), samples.size / sounds.RATE) < 0.5


@pytest.mark.real
@pytest.mark.parametrize(
    ("rule", "text", "wanted"),
    [
        ("backchannel", "Mm-hmm.", False),
        ("backchannel", "Uh-huh, yeah.", False),
        ("backchannel", "Oh, I see, that makes sense.", False),
        ("short query", "Stop.", True),
        ("short query", "Okay, stop.", True),
        ("question after an opener", "Wait, how long does that take?", True),
        ("command", "Tell me about the moon.", True),
        ("wish", "I'd like to hear some music.", True),
        ("correction", "No, the second one.", True),
        ("telling", "We went to the market and bought some apples.", False),
        ("exclamation", "What a beautiful garden!", False),
        ("name first", "Anna, could you close the window?", False),
        ("name last", "Could you pass me the salt, Tom?", False),
        ("no name, but a body", "Do you want another cup of tea?", False),
    ],
)
def test_each_rule_holds_for_speech(ears: Moonshine, judge: Judge, rule: str, text: str, wanted: bool) -> None:
    samples = sounds.speech(text)
    heard = ears.transcribe(samples)
    assert (judge.judge(heard, samples.size / sounds.RATE) >= 0.5) == wanted, f"{rule}: heard {heard.text!r}"


@pytest.mark.real
@pytest.mark.parametrize(
    "sound",
    [
        sounds.silence,
        sounds.white,
        sounds.pink,
        sounds.tone,
        sounds.hum,
        sounds.click,
        sounds.knocks,
        sounds.ring,
    ],
)
def test_noise_is_no_query(ears: Moonshine, judge: Judge, sound: judging.Sound) -> None:
    for loudness in (0.1, 1.0, 3.0):
        samples = np.clip(loudness * sound(), -1, 1)
        assert judge.judge(ears.transcribe(samples), samples.size / sounds.RATE) < 0.1


@pytest.mark.real
def test_music_is_no_query(ears: Moonshine, judge: Judge) -> None:
    for seed in range(3):
        samples = sounds.music(seed=seed)
        assert judge.judge(ears.transcribe(samples), samples.size / sounds.RATE) < 0.1


@pytest.mark.real
def test_a_whisper_of_a_length_is_heard_or_is_nothing(ears: Moonshine) -> None:
    assert ears.transcribe(np.zeros(0, np.float32)).text == ""
    assert ears.transcribe(sounds.white(0.05)).text == ""
    assert ears.transcribe(sounds.silence(30)).text == ""
    spoken = sounds.clip("goforward")
    assert ears.transcribe(spoken[:3000]).text.count(" ") <= 2
    assert ears.transcribe(0.02 * spoken).text == ears.transcribe(spoken).text


@pytest.mark.real
def test_thirty_seconds_are_heard_to_the_end(ears: Moonshine) -> None:
    names = ["sense-0870", "sense-0880", "sense-0890", "sense-0920", "sense-0930", "something"]
    pause = sounds.silence(0.3)
    samples = np.concatenate([part for name in names for part in (sounds.clip(name), pause)])
    assert samples.size > 28 * sounds.RATE
    text = ears.transcribe(samples).text
    assert text.startswith("And Mr. John Dashwood")
    assert text.endswith("do something.")


@pytest.mark.real
def test_more_than_thirty_seconds_are_heard_in_parts(ears: Moonshine) -> None:
    part = np.concatenate([sounds.clip("goforward"), sounds.silence(15)])
    assert ears.transcribe(np.tile(part, 3)).text.count("forward") == 3


@pytest.mark.real
def test_queries_are_taken_and_others_left(ears: Moonshine, judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    events = judging.read("test")
    assert min(sum(event.is_query for event in events), sum(not event.is_query for event in events)) >= 50
    figures = judging.measure(judging.run(events, ears, judge))
    with capsys.disabled():
        print(f"\n{len(events)} events: {figures}")
    assert figures.recall >= 0.95
    assert figures.false_takes <= 0.08
    assert figures.auc >= 0.97


@pytest.mark.real
def test_ears_whose_graphs_do_not_run_fail_as_a_part_and_not_as_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise MemoryError

    class Broken:
        def __init__(self) -> None:
            self.run = run

    ears = Moonshine()
    monkeypatch.setattr(ears, "_encoder", Broken())
    with pytest.raises(PartFailed, match="MemoryError"):
        ears.transcribe(np.full(16_000, 0.1, np.float32))
