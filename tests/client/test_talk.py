"""The talking client: what its loudspeaker plays, what it says when, and what it makes of bad files."""

import argparse
import base64
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.cli.bench import Measured, lines, report
from vita_duplex.client import talk
from vita_duplex.client.connection import open_session
from vita_duplex.client.conversation import SETTLED_S, UNJUDGED_S, Conversation, Reply, Said, Witness
from vita_duplex.client.errors import TalkError
from vita_duplex.client.latency import answer_s, steps_s
from vita_duplex.client.messages import Record, decode
from vita_duplex.client.player import Heard, Held, Player
from vita_duplex.client.recording import OUTPUT_RATE, Pcm, Recording, read_recording, write_stereo
from vita_duplex.client.talk import FRAME, Microphone, summary
from vita_duplex.client.timeline import of_conversation
from vita_duplex.client.timeline_picture import draw
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.server.access.auth import hashed, new_key

SECOND = OUTPUT_RATE


def ramp(count: int, first: int = 0) -> Pcm:
    """Samples that tell where in the reply they stood."""
    return ((np.arange(first, first + count) % 30_000) + 1).astype(np.int16)


def said(seconds: float, name: str = "question.wav") -> Recording:
    return Recording(name, np.full(round(seconds * INPUT_RATE), 1000, np.int16))


# --- the loudspeaker --------------------------------------------------------------------------------------


def test_pieces_that_come_early_are_heard_one_after_the_other() -> None:
    player = Player()
    player.receive("r1", 2400, 1.0)
    player.receive("r1", 2400, 1.0)
    player.receive("r1", 2400, 1.15)
    player.advance(2.0)
    assert player.heard == [Heard("r1", start=24_000, first=0, count=7200)]
    assert player.idle


def test_a_piece_that_comes_late_leaves_a_gap() -> None:
    player = Player()
    player.receive("r1", 2400, 1.0)
    player.receive("r1", 2400, 1.5)
    player.advance(2.0)
    assert player.heard == [Heard("r1", 24_000, 0, 2400), Heard("r1", 36_000, 2400, 2400)]


def test_a_hold_is_silence_and_the_reply_goes_on_at_the_very_sample() -> None:
    player = Player()
    player.receive("r1", SECOND, 1.0)
    player.hold("r1", 1.25)
    player.receive("r1", 2400, 1.3)
    player.resume("r1", 2.0)
    player.advance(4.0)
    assert player.heard == [Heard("r1", 24_000, 0, 6000), Heard("r1", 48_000, 6000, SECOND + 2400 - 6000)]
    assert player.held == [Held("r1", 30_000, 48_000)]


def test_a_second_hold_and_a_needless_resume_change_nothing() -> None:
    player = Player()
    player.resume("r1", 0.5)
    player.receive("r1", SECOND, 1.0)
    player.hold("r1", 1.5)
    player.hold("r1", 1.6)
    player.resume("r1", 2.0)
    player.resume("r1", 2.1)
    player.advance(3.0)
    assert player.held == [Held("r1", 36_000, 48_000)]
    assert sum(one.count for one in player.heard) == SECOND


def test_a_cut_reply_is_heard_no_more_and_its_hold_ends() -> None:
    player = Player()
    player.receive("r1", SECOND, 1.0)
    player.hold("r1", 1.5)
    player.receive("r2", 2400, 1.75)
    player.flush("r1", 2.0)
    player.advance(3.0)
    assert player.heard == [Heard("r1", 24_000, 0, 12_000), Heard("r2", 48_000, 0, 2400)]
    assert player.held == [Held("r1", 36_000, 48_000)]
    assert player.idle


def test_a_time_that_has_passed_plays_nothing_twice() -> None:
    player = Player()
    player.receive("r1", 4800, 1.0)
    for now in (1.1, 1.05, 1.1, 1.2, 1.0):
        player.advance(now)
    assert player.heard == [Heard("r1", 24_000, 0, 4800)]


def test_however_often_the_clock_is_read_the_same_is_heard() -> None:
    often, once = Player(), Player()
    for player, ticks in ((often, 997), (once, 1)):
        player.receive("r1", 5000, 0.1)
        player.hold("r1", 0.2)
        player.resume("r1", 0.4)
        player.receive("r1", 700, 0.45)
        for tick in range(1, ticks + 1):
            player.advance(0.45 + 0.5 * tick / ticks)
    assert often.heard == once.heard
    assert often.held == once.held


# --- the microphone ---------------------------------------------------------------------------------------


def test_the_question_follows_a_short_silence_and_ends_in_silence() -> None:
    microphone = Microphone(said(0.05))
    frames = [microphone.frame(tick * 0.02, None) for tick in range(30)]
    spoken = np.concatenate(frames)
    assert {len(frame) for frame in frames} == {FRAME}
    assert np.flatnonzero(spoken).tolist() == list(range(15 * FRAME, 15 * FRAME + 800))
    assert not microphone.pending(reply_heard=False)


def test_the_second_recording_waits_for_the_reply_to_be_heard() -> None:
    microphone = Microphone(said(0.1), said(0.1, "stop.wav"), at_s=0.5)
    for tick in range(100):
        microphone.frame(tick * 0.02, 1.0 if tick >= 50 else None)
    assert [(one.recording.name, round(one.start, 2)) for one in microphone.said] == [
        ("question.wav", 0.3),
        ("stop.wav", 1.5),
    ]


def test_the_second_recording_is_not_waited_for_when_no_reply_comes() -> None:
    microphone = Microphone(said(0.1), said(0.1))
    for tick in range(100):
        microphone.frame(tick * 0.02, None)
    assert not microphone.pending(reply_heard=False)
    assert microphone.pending(reply_heard=True)


# --- a whole conversation, as events ----------------------------------------------------------------------


def audio(response_id: str, samples: Pcm) -> dict[str, object]:
    data = base64.b64encode(samples.astype("<i2").tobytes()).decode()
    return {"type": "response.output_audio.delta", "response_id": response_id, "delta": data}


def response(kind: str, response_id: str, status: str = "in_progress") -> dict[str, object]:
    return {"type": f"response.{kind}", "response": {"id": response_id, "status": status}}


def verdict(number: int, accepted: bool) -> dict[str, object]:
    return {
        "type": "vita.verdict",
        "utterances": [number],
        "state": "<1>" if accepted else "<2>",
        "p1": 0.9 if accepted else 0.1,
        "accepted": accepted,
        "reason": "verdict",
        "transcript": f"query {number}" if accepted else None,
    }


def speech(speaking: bool) -> dict[str, object]:
    return {"type": "vita.speech", "speaking": speaking}


def hear(*script: tuple[float, dict[str, object]]) -> Witness:
    witness = Witness()
    for at, event in script:
        decoded = decode(json.dumps(event), at)
        if decoded is not None:
            witness.receive(decoded)
    return witness


BARGE_IN: tuple[tuple[float, dict[str, object]], ...] = (
    (0.0, {"type": "vita.roles", "generator": "a", "monitor": "b", "swaps": 0}),
    (1.0, speech(True)),
    (2.0, speech(False)),
    (2.2, verdict(1, True)),
    (2.2, {"type": "vita.roles", "generator": "b", "monitor": "a", "swaps": 1}),
    (2.2, response("created", "r1")),
    (2.4, {"type": "response.output_audio_transcript.delta", "response_id": "r1", "delta": "It is "}),
    (2.5, audio("r1", ramp(SECOND))),
    (2.6, {"type": "response.output_audio_transcript.delta", "response_id": "r1", "delta": "ten."}),
    (2.8, speech(True)),
    (3.0, {"type": "vita.hold", "response_id": "r1"}),
    (3.2, speech(False)),
    (3.5, verdict(2, True)),
    (3.5, response("done", "r1", "cancelled")),
    (3.5, {"type": "vita.roles", "generator": "a", "monitor": "b", "swaps": 2}),
    (3.5, response("created", "r2")),
    (4.0, audio("r2", ramp(4800))),
    (4.3, response("done", "r2", "completed")),
)


def test_a_barge_in_is_told_with_all_its_parts() -> None:
    witness = hear(*BARGE_IN)
    witness.player.advance(5.0)
    conversation = witness.conversation
    assert [reply.status for reply in conversation.replies.values()] == ["cancelled", "completed"]
    assert conversation.transcripts == ["query 1", "query 2"]
    assert conversation.texts == ["It is ten.", ""]
    assert conversation.swaps == 2
    assert conversation.stale_samples == 0
    assert conversation.first_heard() == 2.5
    assert conversation.first_heard("r2") == 4.0
    assert [conversation.heard_samples(one) for one in ("r1", "r2")] == [SECOND // 2, 4800]
    assert [conversation.stalled_s(one) for one in ("r1", "r2")] == [0.0, 0.0]


def test_the_conversation_settles_once_all_is_heard_and_quiet() -> None:
    witness = hear(*BARGE_IN)
    witness.player.advance(4.4)
    assert not witness.settled(4.4)
    witness.player.advance(4.3 + SETTLED_S + 0.01)
    assert witness.settled(4.3 + SETTLED_S + 0.01)


def test_an_accepted_query_is_waited_for_until_its_reply_comes() -> None:
    witness = hear((1.0, speech(True)), (2.0, speech(False)), (2.2, verdict(1, True)))
    witness.player.advance(100)
    assert not witness.settled(100)


def test_speech_without_a_verdict_is_waited_for_longer() -> None:
    witness = hear(*BARGE_IN, (6.0, speech(True)), (6.1, speech(False)))
    witness.player.advance(20)
    assert not witness.settled(6.1 + SETTLED_S + 0.1)
    assert witness.settled(6.1 + UNJUDGED_S + 0.1)


def test_all_rejected_is_no_failure_but_is_told() -> None:
    witness = hear((1.0, speech(True)), (2.0, speech(False)), (2.2, verdict(1, False)))
    witness.player.advance(5)
    assert witness.settled(5)
    assert witness.conversation.all_rejected
    assert not witness.conversation.answered


def test_audio_after_the_end_of_a_reply_is_counted_and_not_heard() -> None:
    witness = hear(*BARGE_IN, (4.4, audio("r1", ramp(480))))
    witness.player.advance(6)
    assert witness.conversation.stale_samples == 480
    assert witness.conversation.heard_samples("r1") == SECOND // 2


def test_silence_that_nobody_asked_for_is_a_stall() -> None:
    witness = hear(
        (0.0, response("created", "r1")),
        (1.0, audio("r1", ramp(SECOND))),
        (1.5, {"type": "vita.hold", "response_id": "r1"}),
        (2.5, {"type": "vita.resume", "response_id": "r1"}),
        (3.25, audio("r1", ramp(2400))),
    )
    witness.player.advance(5)
    assert witness.conversation.stalled_s("r1") == pytest.approx(0.25)


def test_unknown_events_are_passed_over_and_nonsense_is_not() -> None:
    assert decode('{"type": "rate_limits.updated"}', 0.0) is None
    for nonsense in ("[]", "{", '{"no": "type"}', '{"type": "response.done"}'):
        with pytest.raises(TalkError):
            decode(nonsense, 0.0)


def test_the_stereo_file_holds_both_sides_as_they_were_in_time(tmp_path: Path) -> None:
    conversation = Conversation(said=[Said(said(0.5), 0.25)])
    conversation.replies["r1"] = Reply("r1", 0.0, pieces=[ramp(1000), ramp(SECOND, first=1000)])
    conversation.heard = [Heard("r1", 24_000, 0, 6000), Heard("r1", 36_000, 6000, 3000)]
    write_stereo(conversation.stereo(), tmp_path / "reply.wav")
    tracks, rate = soundfile.read(tmp_path / "reply.wav", dtype="int16")
    assert (rate, tracks.shape) == (24_000, (39_000, 2))
    assert not tracks[:6000, 0].any()
    assert np.abs(tracks[6200:17_800, 0] - 1000).max() < 20
    assert not tracks[18_000:, 0].any()
    right = np.zeros(39_000, np.int16)
    right[24_000:30_000] = ramp(6000)
    right[36_000:] = ramp(3000, first=6000)
    assert np.array_equal(tracks[:, 1], right)


# --- latency ----------------------------------------------------------------------------------------------

RECORD = Record(
    turn=1,
    response_id="r2",
    utterances=(1,),
    slot=0,
    instance="a",
    status="completed",
    speech_end=2.0,
    endpoint=2.5,
    begun=2.2,
    asr_s=0.1,
    verdict=2.4,
    first_token=2.6,
    first_clause=2.75,
    first_synthesised=3.0,
    first_audio_sent=3.01,
)


def test_the_steps_add_up_and_an_early_verdict_costs_nothing() -> None:
    steps = steps_s(RECORD)
    assert {name: round(value, 3) for name, value in steps.items()} == {
        "endpoint wait": 0.5,
        "verdict": 0.0,
        "first token": 0.1,
        "first clause": 0.15,
        "synthesis": 0.25,
        "sending": 0.01,
    }
    assert sum(steps.values()) == pytest.approx(answer_s(RECORD))


def test_the_summary_has_a_row_for_each_turn() -> None:
    witness = hear(*BARGE_IN, (4.5, {"type": "vita.timeline", "record": asdict(RECORD)}))
    witness.player.advance(5)
    text = summary(witness.conversation)
    assert text.splitlines()[2].split()[:4] == ["1", "completed", "2.00", "0.50"]
    assert "role swaps: 2, stale samples: 0" in text


def test_the_report_marks_each_bar() -> None:
    measured = Measured(
        ready_s=3,
        runs=2,
        answers=[RECORD] * 2,
        heard_s=[1.1, 1.2],
        memory=5 * 10**9,
        idle_percent=1,
        sessions=20,
        early_s=[0.0, 0.004, 0.2],
        late_s=[0.3, 0.31],
    )
    assert [one.met for one in lines(measured)] == [True, True, False, True, True, True, True]
    assert "end of speech to first audio, p50" in report(measured)
    assert not lines(Measured(runs=1))[0].met
    assert "0 of 1" in report(Measured(runs=1))


# --- files ------------------------------------------------------------------------------------------------


def test_any_rate_and_any_channels_become_the_first_channel_at_16_khz(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, -tone], axis=1), 44_100)
    recording = read_recording(tmp_path / "stereo.wav")
    expected = 0.5 * 32767 * np.sin(2 * np.pi * 300 * np.arange(INPUT_RATE) / INPUT_RATE)
    assert len(recording.samples) == INPUT_RATE
    assert np.abs(recording.samples[200:-200] - expected[200:-200]).max() < 50


def bad_files(folder: Path) -> dict[Path, str]:
    (folder / "nothing.wav").touch()
    soundfile.write(folder / "header.wav", np.zeros(0), 16_000)
    (folder / "text.wav").write_text("these are words\n" * 100)
    soundfile.write(folder / "long.wav", np.zeros(8000 * 601, np.int16), 8000)
    soundfile.write(folder / "nan.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    return {
        folder / "missing.wav": "cannot read",
        folder: "is a folder",
        folder / "nothing.wav": "is empty",
        folder / "header.wav": "is empty",
        folder / "text.wav": "the audio cannot be decoded",
        folder / "long.wav": "too long: at most 600 s",
        folder / "nan.wav": "not numbers",
    }


def test_a_file_that_cannot_be_played_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    talk.add_arguments(parser)
    for path, reason in bad_files(tmp_path).items():
        assert talk.run(parser.parse_args([str(path)])) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert reason in err
        assert err.count("\n") == 1


def test_what_cannot_be_written_is_refused_before_the_conversation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    talk.add_arguments(parser)
    soundfile.write(tmp_path / "question.wav", np.zeros(160), 16_000)
    question = str(tmp_path / "question.wav")
    for option, path in (("--out", "no/reply.wav"), ("--timeline", "no/a.svg"), ("--timeline", "a.png")):
        assert talk.run(parser.parse_args([question, option, str(tmp_path / path)])) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_no_server_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    talk.add_arguments(parser)
    soundfile.write(tmp_path / "question.wav", np.zeros(160), 16_000)
    for url, reason in (
        ("ws://127.0.0.1:9/v1/realtime", "no server"),
        ("http://127.0.0.1:9", "WebSocket address"),
    ):
        assert talk.run(parser.parse_args([str(tmp_path / "question.wav"), "--url", url])) == 1
        err = capsys.readouterr().err
        assert reason in err
        assert err.count("\n") == 1


async def test_a_server_that_wants_a_key_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    monkeypatch.setenv("VITA_API_KEY", key)
    parser = argparse.ArgumentParser()
    talk.add_arguments(parser)
    async with serving(scripted_server(access={"keys": {"alice": hashed(key)}})) as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        async with open_session(url, key=parser.parse_args(["question.wav"]).api_key) as session:
            assert session.witness.ready
        for wrong, hint in ((None, r"HTTP 401; give an API key with --api-key$"), ("wrong", r"HTTP 401$")):
            with pytest.raises(TalkError, match=hint):
                async with open_session(url, key=wrong):
                    pass


# --- the picture ------------------------------------------------------------------------------------------


def test_the_picture_is_drawn_also_of_an_empty_conversation() -> None:
    witness = hear(*BARGE_IN, (4.5, {"type": "vita.timeline", "record": asdict(RECORD)}))
    witness.player.advance(5)
    witness.conversation.said = [Said(said(1.0), 1.0)]
    for conversation in (witness.conversation, Conversation()):
        drawn = ElementTree.fromstring(str(draw(of_conversation(conversation))))
        words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
        assert "heard" in words
        assert ("turn 1 (u1)" in words) == bool(conversation.records)
