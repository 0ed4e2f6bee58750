"""Session logs: what is in them and what is not, and that the core decides the same again."""

import argparse
import asyncio
import json
import random
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.conversations import FAST, NOISE, QUERY, conversation
from tests.support.seed import SEED
from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import VirtualLoop, run
from vita_duplex.cli import replay as command
from vita_duplex.config import Config
from vita_duplex.engine.duplex import Duplex
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import (
    BargeIn,
    Command,
    Event,
    QueryTyped,
    Reject,
    SettingsChanged,
    SpeechEnded,
    SpeechSustained,
)
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.notices import TurnAudio, TurnRecorded
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.session_log import FORMAT, LogError, SessionLog, decide, read, replay
from vita_duplex.engine.settings import Configure
from vita_duplex.server.http.app import Server
from vita_duplex.server.observe.session_logs import SessionLogs, SessionWriter
from vita_duplex.server.parts import load_parts

RATE = 24_000


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def talk_at_random(seed: int) -> list[str]:
    """A session with a user who speaks, types, cancels and interrupts at random; returns its log."""
    dice = random.Random(seed)
    replies = [
        ScriptedReply(
            p1=dice.choice([0.02, 0.47, 0.53, 0.97]),
            transcript="hush-hush",
            text="hush hush hush hush. " * dice.randint(1, 6),
            verdict_s=dice.choice([0.01, 0.3, 2.5]),
            token_s=dice.choice([0.01, 0.1]),
            fails_after=dice.choice([None, None, None, 0, 3]),
        )
        for _ in range(8)
    ]
    config = FAST.model_copy(update={"barge_in": dice.choice(["hold", "hold", "verdict", "off"])})

    async def script() -> list[str]:
        lines: list[str] = []
        log = SessionWriter(lambda line: bool(lines.append(line)) or True, config, RATE)
        async with conversation(*replies, config=config, log=log) as talk:
            for _ in range(8):
                if dice.random() < 0.3:
                    wanted: BargeIn = dice.choice(("hold", "verdict", "off"))
                    decisions = SettingsChanged(wanted, dice.choice([0.3, 0.5, 0.6]))
                    await talk.session.configure(Configure(decisions=decisions))
                match dice.randrange(5):
                    case 0:
                        await talk.session.ask(next(talk.numbers), "hush")
                    case 1 if talk.session.duplex.floor:
                        await talk.session.cancel_reply(talk.session.duplex.floor.turn)
                    case _:
                        await talk.speak(dice.choice([0.05, 0.12, 0.4, 1.0]))
                await talk.be_silent(dice.choice([0.1, 0.25, 0.4, 0.7, 3.0]))
        return lines

    return run(script())


@pytest.mark.parametrize("sessions", [10, pytest.param(200, marks=pytest.mark.long)])
def test_random_sessions_are_replayed_byte_for_byte(tmp_path: Path, sessions: int) -> None:
    seen: set[str] = set()
    abstained = 0
    for seed in range(SEED, SEED + sessions):
        log = read(write(tmp_path / "log.jsonl", talk_at_random(seed)))
        assert replay(log) is None
        for step, commands in decide(log.header.duplex, log.steps):
            seen |= {type(step.event).__name__, *(type(one).__name__ for one in commands)}
        abstained += sum(record["abstained"] for record in log.records)
        assert "hush" not in (tmp_path / "log.jsonl").read_text()
    everything = {"Warm", "Begin", "Abort", "Accept", "Reject", "Swap", "GiveFloor", "Hold", "Resume", "Finish"}
    if sessions < 200:
        return
    assert everything | {"NoneType", "SpeechResumed", "CancelAsked", "ReplyFailed", "Played"} <= seen
    assert abstained


def query_and_noise() -> list[str]:
    async def script() -> list[str]:
        lines: list[str] = []
        log = SessionWriter(lambda line: bool(lines.append(line)) or True, DuplexConfig(), RATE)
        async with conversation(QUERY, NOISE, log=log) as talk:
            await talk.speak(1.0)
            await talk.silent_until(TurnAudio)
            await talk.speak(0.5)
            await talk.silent_until(TurnRecorded, 2)
        return lines

    return run(script())


def test_the_logged_times_are_those_that_the_core_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    class Noting(Duplex):
        def receive(self, event: Event, now: float) -> list[Command]:
            given.append(now)
            return super().receive(event, now)

        def tick(self, now: float) -> list[Command]:
            given.append(now)
            return super().tick(now)

    def time(loop: VirtualLoop) -> float:  # a clock that never shows the same time twice, like a real one
        loop._jumping.now += 1e-7
        return loop._jumping.now

    monkeypatch.setattr("vita_duplex.engine.session.Duplex", Noting)
    monkeypatch.setattr(VirtualLoop, "time", time)
    log = read(write(tmp_path / "log.jsonl", talk_at_random(2)))
    assert [step.now for step in log.steps] == given
    assert None in [step.event for step in log.steps]


def altered(lines: list[str], change: str) -> list[str]:
    """One line of the log, made different in a way that can still be read."""
    steps = [(number, json.loads(line)) for number, line in enumerate(lines) if "event" in line]
    for number, step in steps:
        match change, step:
            case "event lost", {"event": {"SpeechEnded": _}}:
                return lines[:number] + lines[number + 1 :]
            case "event repeated", {"commands": [_, *_]}:
                return [*lines[: number + 1], lines[number], *lines[number + 1 :]]
            case "verdict turned", {"event": {"VerdictReached": fields}}:
                step["event"] = {"VerdictReached": {**fields, "p1": fields["p2"], "p2": fields["p1"]}}
            case "command added", {"commands": []}:
                step["commands"] = [{"Warm": {"slot": 0}}]
            case "command changed", {"commands": [{"Begin": fields}, *others]}:
                step["commands"] = [{"Begin": {**fields, "slot": 1 - fields["slot"]}}, *others]
            case _:
                continue
        return [*lines[:number], json.dumps(step, separators=(",", ":")), *lines[number + 1 :]]
    raise AssertionError(change)


@pytest.mark.parametrize(
    "change",
    ["event lost", "event repeated", "verdict turned", "command added", "command changed"],
)
def test_an_altered_log_differs(tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "log.jsonl", altered(query_and_noise(), change))
    difference = replay(read(path))
    assert difference is not None
    assert difference.logged == path.read_text().splitlines()[difference.line - 1]
    assert command.run(argparse.Namespace(log=path)) == 1
    assert f"line {difference.line} differs" in capsys.readouterr().out


def test_the_command_says_that_a_log_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = talk_at_random(1)
    whole = write(tmp_path / "whole.jsonl", lines)
    assert command.run(argparse.Namespace(log=whole)) == 0
    assert capsys.readouterr().out.startswith("the same: ")
    cut = tmp_path / "cut.jsonl"
    cut.write_text(whole.read_text()[:-7])
    assert command.run(argparse.Namespace(log=cut)) == 0
    assert capsys.readouterr().out.startswith("the last line was not written to the end")


def unreadable() -> dict[str, tuple[str, str]]:
    lines = talk_at_random(1)
    header = json.loads(lines[0])
    return {
        "empty": ("", "not one whole line"),
        "another format": (json.dumps({**header, "format": FORMAT + 1}) + "\n", f"this version reads format {FORMAT}"),
        "a newer setting": (json.dumps({**header, "duplex": {"mood": "good"}}) + "\n", "of this version: duplex.mood"),
        "no header": (lines[1] + "\n", "is no session log"),
        "no JSON": ("hello\n", "first line is no header"),
        "a list": ("[]\n", "is no session log"),
        "an unknown event": (
            f'{lines[0]}\n{{"now":1.0,"event":{{"Sneezed":{{"utterance":1}}}},"commands":[]}}\n',
            "line 2",
        ),
        "a broken line": (f"{lines[0]}\n{lines[1][:-5]}\n{lines[2]}\n", "line 2"),
        "an unknown field": (
            f'{lines[0]}\n{{"now":1.0,"event":{{"Played":{{"turn":1,"utterance":2}}}},"commands":[]}}\n',
            "line 2",
        ),
    }


def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, reason in unreadable().values():
        path = tmp_path / "log.jsonl"
        path.write_text(text)
        with pytest.raises(LogError, match=reason):
            read(path)
        assert command.run(argparse.Namespace(log=path)) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert command.run(argparse.Namespace(log=tmp_path / "missing")) == 2


def test_of_a_rejected_utterance_there_is_nothing_but_that_it_was_rejected(tmp_path: Path) -> None:
    lines = query_and_noise()
    text = "\n".join(lines)
    for words in (QUERY.transcript, NOISE.transcript, *QUERY.text.split(), *NOISE.text.split()):
        assert words not in text
    log = read(write(tmp_path / "log.jsonl", lines))
    assert [record["status"] for record in log.records] == ["rejected", "completed"]
    decided = [command for _, commands in decide(log.header.duplex, log.steps) for command in commands]
    assert [one.utterances for one in decided if isinstance(one, Reject)] == [(2,)]
    assert log.roles[0][1].generator == "a"


# ── the writer ─────────────────────────────────────────────────────────────────────────


def begin(logs: SessionLogs, name: str) -> SessionWriter:
    async def script() -> SessionWriter:
        return logs.open(name, DuplexConfig(), RATE)

    return asyncio.run(script())


def test_each_session_has_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    logs = SessionLogs(tmp_path / "logs")
    writers = [begin(logs, name) for name in ("sess_1", "sess_2")]
    for number in range(50):
        writers[number % 2].step(float(number), QueryTyped(number), [])
    logs.close()
    paths = sorted((tmp_path / "logs").iterdir(), key=lambda path: path.name[-12:])
    assert [path.name.split("-", 1)[1] for path in paths] == ["sess_1.jsonl", "sess_2.jsonl"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600] * 2
    for first, path in enumerate(paths):
        assert [step.event for step in read(path).steps] == [QueryTyped(number) for number in range(first, 50, 2)]


def test_a_full_queue_ends_a_log_and_leaves_no_hole(tmp_path: Path) -> None:
    gate = threading.Event()

    class SlowDisk(SessionLogs):
        def _write(self) -> None:
            gate.wait()
            super()._write()

    logs = SlowDisk(tmp_path, limit=4)
    writer = begin(logs, "sess_1")
    for number in range(9):
        writer.step(float(number), SpeechSustained(number), [])
    gate.set()
    while not logs._waiting.empty():
        pass
    writer.step(9.0, SpeechEnded(9), [])
    logs.close()
    log = one_log(tmp_path)
    assert [step.now for step in log.steps] == [0.0, 1.0, 2.0]
    assert not log.cut


def one_log(folder: Path) -> SessionLog:
    [path] = folder.iterdir()
    return read(path)


def test_a_disk_that_fails_ends_the_log_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    logs = SessionLogs(folder)
    folder.rmdir()
    writer = begin(logs, "sess_1")
    writer.step(0.0, SpeechEnded(1), [])
    logs.close()
    assert not folder.exists()
    assert [record.message for record in caplog.records if "cannot write the session log" in record.message] != []
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_made_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PartFailed, match="session log: cannot make the folder"):
        SessionLogs(tmp_path / "file" / "logs")


def test_a_server_logs_its_sessions_where_it_is_told_to_and_nothing_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    scripted = {"engine": {"kind": "scripted"}, "vad": {"kind": "level"}, "tts": {"kind": "humming"}}
    for logged in (False, True):
        server = scripted_server(QUERY, NOISE)
        settings = {**scripted, "server": {"session_logs": str(folder)} if logged else {}}
        parts = load_parts(Config.model_validate(settings), lambda share, phase: None)
        assert server.parts is not None
        server.parts = replace(server.parts, session_logs=parts.session_logs)

        async def script(server: Server = server) -> list[str]:
            async with connected(server) as socket:
                await socket.speak()
                await socket.until("response.created")
                wanted = {"type": "realtime", "vita": {"barge_in": "verdict", "verdict_threshold": 0.01}}
                socket.put({"type": "session.update", "session": wanted})
                await socket.speak(0.4)
                await socket.until("response.done", 2)
                return [event["session"]["id"] for event in socket.all("session.created")]

        [session] = run(script())
        parts.close()
        assert folder.exists() == logged
    log = one_log(folder)
    assert replay(log) is None
    assert [record["status"] for record in log.records] == ["cancelled", "completed"], "by the new threshold"
    assert [step.event for step in log.steps if isinstance(step.event, SettingsChanged)] == [
        SettingsChanged("verdict", 0.01)
    ]
    assert [path.name.endswith(f"-{session}.jsonl") for path in folder.iterdir()] == [True]
