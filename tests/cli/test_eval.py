"""`vita-duplex eval` on folders in the layouts of the public sets, made of our own sounds."""

import argparse
import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support import sounds
from tests.support.serving import serving
from tests.support.sockets import scripted_server
from tests.support.virtual_time import run
from vita_duplex.cli import eval
from vita_duplex.cli.eval_clips import Listened, find_span
from vita_duplex.cli.eval_layouts import Clip, EvalError, read
from vita_duplex.cli.eval_scores import groups, report, score
from vita_duplex.client.connection import ABILITIES, Address
from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import to_pcm
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import Query, Usage, Verdict
from vita_duplex.engine.pool import Pool
from vita_duplex.server.server import Server

KERNEL_S = 0.0005
STORY = " ".join(f"word{number}" for number in range(40)) + "."


def write(file: Path, *parts: sounds.Samples) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.concatenate(parts), sounds.RATE)


def full_duplex_bench(folder: Path) -> None:
    """A question, then an interruption or a nod into the answer."""
    question, long, short = (sounds.tone(200, seconds, 0.3) for seconds in (2.0, 2.0, 0.4))
    for task, said in (("user_interruption", long), ("user_backchannel", short), ("talking_to_other", short)):
        write(folder / task / "1" / "input.wav", question, sounds.silence(3.0), said, sounds.silence(1.0))
        write(folder / task / "1" / "clean_input.wav", question, sounds.silence(4.0))
        times = [5.0, 5.0 + said.size / sounds.RATE]
        (folder / task / "1" / "metadata.json").write_text(json.dumps({"timestamps": times}))


def sid_bench(folder: Path) -> None:
    rows = {"en": [("stop.wav", 2.0, False), ("nod.wav", 0.4, True)], "silence_or_noise": [("hiss.wav", 2.0, True)]}
    for group, clips in rows.items():
        table = folder / "test_wavs" / ("en_test_lines.jsonl" if group == "en" else "silence_noise_test.jsonl")
        lines = []
        for name, seconds, none in clips:
            sound = sounds.tone(200, seconds, 0.3) if group == "en" else sounds.white(seconds, 0.001)
            write(folder / "test_wavs" / group / name, sound)
            fields = {"audio": name, "total_nonbreak": none, "duration": seconds, "break_time": 0.1}
            lines.append(json.dumps(fields | {"text_with_break": None}))
        table.write_text("\n".join(lines))


def humdial(folder: Path) -> None:
    said = (sounds.clip("goforward"), sounds.silence(3.0), sounds.clip("something"))
    for scenario in ("User_Real-time_Backchannels", "Pause Handling"):
        for name in ("0001_0002", "clean_0001_0002", "0001_0002_output"):
            write(folder / "en" / scenario / f"{name}.wav", *said)
    write(folder / "en" / "notes" / "0001_0001.wav", *said)


LAYOUTS = {"fdb": full_duplex_bench, "sid": sid_bench, "humdial": humdial}


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    LAYOUTS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def test_each_layout_is_known_by_its_files(folder: Path) -> None:
    found = [(clip.group, clip.name, clip.wanted) for clip in read(folder)]
    assert (
        found
        == {
            "fdb": [
                ("talking_to_other", "1", "resume"),
                ("user_backchannel", "1", "resume"),
                ("user_interruption", "1", "respond"),
            ],
            "sid": [
                ("en", "nod.wav", "resume"),
                ("en", "stop.wav", "respond"),
                ("silence_or_noise", "hiss.wav", "resume"),
            ],
            "humdial": [
                ("Pause Handling (en)", "0001_0002", "wait"),
                ("User_Real-time_Backchannels (en)", "0001_0002", "resume"),
            ],
        }[folder.name]
    )


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("user_interruption/1/metadata.json", "{", "not JSON"),
        ("user_interruption/1/metadata.json", "[]", "not a JSON object"),
        ("user_interruption/1/metadata.json", "{}", "timestamps is missing or wrong"),
        ("user_interruption/1/metadata.json", '{"timestamps": [2, 1]}', "timestamps is missing or wrong"),
        ("test_wavs/zh_test_lines.jsonl", '{"audio": "a.wav"}', "zh_test_lines.jsonl:1: duration"),
        ("something/else.txt", "", "none of the layouts"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path, file: str, text: str, said: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(EvalError, match=said):
        read(tmp_path)


def test_what_is_said_into_the_reply_is_found_behind_the_question(tmp_path: Path) -> None:
    humdial(tmp_path)
    waits, resumes = read(tmp_path)
    question = sounds.clip("goforward").size / sounds.RATE
    samples = to_pcm(soundfile.read(resumes.audio, dtype="float32")[0])
    start, end = find_span(resumes, samples)
    assert question + 3.0 < start < end <= len(samples) / sounds.RATE
    assert find_span(waits, samples)[0] < question
    with pytest.raises(TalkError, match="1 stretches of speech"):
        find_span(resumes, to_pcm(sounds.clip("goforward")))


# ── scores ─────────────────────────────────────────────────────────────────────────────


def clip(wanted: Any) -> Clip:
    return Clip("set", "group", "clip", Path("clip.wav"), wanted, (5.0, 7.0))


def scored(wanted: Any, *heard: tuple[str, float, float], **cut: float) -> tuple[str, bool, float]:
    one = score(Listened(clip(wanted), (5.0, 7.0), list(heard), cut))
    return one.did, one.right, one.penalty_s


def test_a_reply_is_judged_by_what_was_heard_of_it() -> None:
    assert scored("respond", ("a", 3, 5.4), ("b", 8, 12), a=5.4) == ("responded", True, pytest.approx(0.4))
    assert scored("respond", ("a", 3, 5.4), a=5.4) == ("stopped", True, pytest.approx(0.4))
    assert scored("respond", ("a", 3, 5.2), a=8.0) == ("stopped", True, pytest.approx(0.2)), "held, then cut"
    assert scored("respond", ("a", 3, 5.2), ("a", 8, 12)) == ("resumed", False, 2.0)
    assert scored("resume", ("a", 3, 5.2), ("a", 8, 12)) == ("resumed", True, 0.0)
    assert scored("resume", ("a", 3, 5.2), ("b", 8, 12), a=5.2) == ("responded", False, 2.0)
    assert scored("resume", ("a", 3, 4)) == ("silent", False, 0.0)
    assert scored("resume", ("b", 6, 7)) == ("silent", False, 0.0), "it began afterwards"
    assert scored("wait", ("a", 8, 9)) == ("waited", True, 0.0)
    assert scored("wait", ("a", 6, 9)) == ("answered early", False, 2.0)


def test_pauses_and_responses_are_measured() -> None:
    paused = score(Listened(clip("resume"), (5.0, 7.0), [("a", 3, 5.2), ("a", 6.0, 6.5), ("a", 6.52, 9)], {}))
    assert paused.pause_s == pytest.approx(0.8), "20 ms are no pause"
    answered = score(Listened(clip("respond"), (5.0, 7.0), [("a", 3, 5.2), ("b", 8.5, 9)], {"a": 5.2}))
    assert (answered.response_s, answered.silent_s) == (1.5, pytest.approx(0.2))


def test_clips_into_silence_are_told_and_not_counted() -> None:
    scores = [
        score(Listened(clip("resume"), (5.0, 7.0), heard, {}))  # type: ignore[arg-type]
        for heard in ([("a", 3, 9)], [], [])
    ]
    found = report(scores, [("group/x", "it broke")])
    assert (found["groups"][0]["clips"], found["groups"][0]["silent"]) == (1, 2)
    assert found["failed"] == [{"clip": "group/x", "why": "it broke"}]
    assert groups(scores)[0].row()[:4] == ["group", "1", "2", "1/1 = 100.0% (21%–100%)"]
    assert groups(scores[1:])[0].row()[:2] == ["group", "0"]
    json.dumps(report(scores[1:], []))


# ── against a server ───────────────────────────────────────────────────────────────────


class JudgeOfLength(ScriptedInstance):
    """What has lasted for more than a second was meant for us; everything is answered at length."""

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Usage]:
        samples = query.utterances[-1].samples if query.utterances else None
        p1 = 0.95 if samples is None or len(samples) > 1.6 * sounds.RATE else 0.05
        p1 = 0.49 if query.unfinished else p1
        self._replies = (ScriptedReply(p1=p1, text=STORY, verdict_s=0.05, token_s=0.01),)
        async for item in super().answer(query):
            yield item


def server() -> Server:
    made = scripted_server()
    assert made.parts is not None
    pool = Pool([JudgeOfLength(name) for name in "ab"])
    made.parts = replace(made.parts, pools={made.config.model_name: pool})
    return made


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("layout", ["fdb", "sid"])
def test_a_set_is_played_to_a_server(tmp_path: Path, layout: str, stock: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def inline(work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", inline)  # threads, which read files, know no virtual time
    LAYOUTS[layout](tmp_path)
    clips = read(tmp_path)

    async def script() -> tuple[list[Any], list[tuple[str, str]]]:
        async with serving(server()) as port:
            address = Address(f"ws://127.0.0.1:{port}/v1/realtime", None, {} if stock else ABILITIES)
            return await eval.play(address, clips, len(clips))

    scores, failed = run(script(), patience_s=KERNEL_S)
    assert failed == []
    assert {one.name: one.did for one in scores if one.wanted == "resume"} == {
        clip.name: "resumed" for clip in clips if clip.wanted == "resume"
    }
    [interruption] = [one for one in scores if one.wanted == "respond"]
    assert interruption.did == "responded"
    assert interruption.silent_s is not None
    assert interruption.silent_s < 0.5, "a stock client runs out of what it was sent ahead"
    assert all(one.pause_s or one.name == "hiss.wav" for one in scores if one.wanted == "resume")


async def test_a_clip_that_is_missing_and_a_server_that_is_not_there_are_told(tmp_path: Path) -> None:
    full_duplex_bench(tmp_path)
    clips = read(tmp_path)
    (tmp_path / "user_interruption" / "1" / "input.wav").unlink()
    scores, failed = await eval.play(Address("ws://127.0.0.1:9/v1/realtime"), clips, 2)
    assert scores == []
    told = dict(failed)
    assert sorted(told) == ["talking_to_other/1", "user_backchannel/1", "user_interruption/1"]
    assert "No such file" in told["user_interruption/1"]


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = [("a", 3.0, 5.2), ("a", 6.0, 9.0)]
    scores = [score(Listened(clip("resume"), (5.0, 7.0), heard, {}))]
    eval.tell(scores, [("group/x", "it broke")], tmp_path / "out.json")
    printed = capsys.readouterr()
    assert re.search(r"^group +1 +0 +1/1 = 100.0% .* 0.80, 0.80", printed.out, re.M)
    assert printed.err == "group/x: it broke\n"
    assert json.loads((tmp_path / "out.json").read_text())["clips"][0]["did"] == "resumed"
    with pytest.raises(EvalError, match="no clip"):
        eval.tell([], [("group/x", "it broke")], None)


def test_options_choose_how_many_clips_and_what_the_client_can_do(tmp_path: Path) -> None:
    full_duplex_bench(tmp_path)
    parser = argparse.ArgumentParser()
    eval.add_arguments(parser)
    with pytest.raises(EvalError, match="no folder"):
        eval.run(parser.parse_args([str(tmp_path), "--json", str(tmp_path / "none" / "out.json")]))
    twice = [*read(tmp_path), *read(tmp_path)]
    assert eval._first(twice, 1) == read(tmp_path)
    assert eval._first(twice, None) == twice
