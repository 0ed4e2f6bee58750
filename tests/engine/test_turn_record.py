"""The picture of a session, from its log: every span where the log says it was."""

import argparse
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import pytest

from tests.support.conversations import NOISE, QUERY, conversation
from tests.support.virtual_time import run
from vita_duplex.cli import timeline
from vita_duplex.client.timeline import Span, Timeline, of_log
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.notices import TurnAudio, TurnEnded, TurnHeld, TurnResumed
from vita_duplex.engine.session_log import read
from vita_duplex.server.observe.session_logs import SessionWriter

SVG = "{http://www.w3.org/2000/svg}"
SLOW = {"verdict_s": 0.25, "token_s": 0.15}
LONG = QUERY.model_copy(update={"text": " ".join(["One two three four five six seven eight."] * 3), **SLOW})


@cache
def barge_ins() -> tuple[list[str], dict[str, float]]:
    """A question, an answer; somebody else speaks into it; a second question with a pause in it; its answer.

    Returns the log and when the client was told what.
    """

    async def script() -> tuple[list[str], dict[str, float]]:
        lines: list[str] = []
        log = SessionWriter(lambda line: bool(lines.append(line)) or True, DuplexConfig(), 24_000)
        async with conversation(LONG, NOISE.model_copy(update=SLOW), LONG, log=log) as talk:
            await talk.be_silent(0.4)
            await talk.speak(1.2)
            await talk.silent_until(TurnAudio)
            await talk.be_silent(0.8)
            await talk.speak(0.7)
            await talk.silent_until(TurnResumed)
            await talk.be_silent(0.6)
            await talk.speak(0.6)
            await talk.be_silent(0.3)
            await talk.speak(0.6)
            await talk.silent_until(TurnEnded, 2)
        kinds = {"audio": TurnAudio, "held": TurnHeld, "resumed": TurnResumed, "ended": TurnEnded}
        return lines, {name: talk.times(kind)[0] for name, kind in kinds.items()}

    return run(script())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "session.jsonl"
    path.write_text("".join(f"{line}\n" for line in barge_ins()[0]))
    return path


def near(spans: list[Span], *wanted: Span) -> None:
    assert [end for span in spans for end in span] == pytest.approx([end for span in wanted for end in span], abs=0.05)


def test_speech_holds_and_sounds_lie_where_the_client_saw_them(log: Path) -> None:
    shown: Timeline = of_log(read(log), "a session")
    told = barge_ins()[1]
    (first, second) = shown.sounds.values()
    assert len(shown.speech) == 3
    near(shown.speech[:1], (0.5, 2.1))
    near([shown.pauses[0]], (1.8, 2.1))
    assert len(shown.pauses) == 4, "an end each, and the pause in the second question"
    near(first.held[:1], (told["held"], told["resumed"]))
    assert first.heard[0][0] == pytest.approx(told["audio"], abs=0.01)
    near([first.heard[0]], (told["audio"], told["held"]))
    assert first.heard[1][0] == pytest.approx(told["resumed"], abs=0.01)
    assert first.heard[-1][1] <= told["ended"]
    assert second.heard[0][0] > told["ended"]
    assert shown.words == {}
    assert [record.status for record in shown.records] == ["rejected", "cancelled", "completed"]
    assert [(one.generator, one.monitor) for one in shown.roles] == [("a", "b"), ("b", "a")]
    audio = {record.response_id: record.samples for record in shown.records}
    for name, sound in shown.sounds.items():
        for what, spans in (("sent", sound.sent), ("heard", sound.heard)):
            assert sum(end - start for start, end in spans) == pytest.approx(getattr(audio[name], what) / 24_000)


def test_the_command_draws_a_log(log: Path) -> None:
    out = log.parent / "picture.svg"
    assert timeline.run(argparse.Namespace(log=log, out=out)) == 0
    drawn = ElementTree.parse(out).getroot()
    tips = [title.text or "" for title in drawn.iter(f"{SVG}title")]
    for what in (
        "utterance",
        "speech",
        "short silence",
        "hold",
        "heard",
        "sent",
        "generated",
        "a generates",
        "b monitors",
    ):
        assert any(tip.startswith(f"{what}: ") for tip in tips), what
    texts = [text.text or "" for text in drawn.iter(f"{SVG}text")]
    assert any(text.startswith("hold 0.") and ", resume " in text for text in texts)


def test_what_cannot_be_drawn_is_refused_in_one_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = log.read_text().splitlines()
    for path, out, content, reason in (
        ("missing", "a.svg", None, "cannot read"),
        ("log", "a.txt", lines, "has to end in .svg"),
        ("log", "no/a.svg", lines, "cannot write"),
        ("log", "a.svg", [lines[0], '{"record":{"turn":"first"}}'], "record in the log is not of this version"),
    ):
        if content:
            (log.parent / path).write_text("".join(f"{line}\n" for line in content))
        assert timeline.run(argparse.Namespace(log=log.parent / path, out=log.parent / out)) == 2
        err = capsys.readouterr().err
        assert reason in err
        assert err.count("\n") == 1


def test_a_session_in_which_nothing_happened_can_be_drawn(log: Path) -> None:
    log.write_text(log.read_text().splitlines()[0] + "\n")
    assert timeline.run(argparse.Namespace(log=log, out=log.parent / "empty.svg")) == 0
