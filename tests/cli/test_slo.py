"""How many sessions a server holds: the search, what users hear, and a real server with a few of them."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.paths import DATA
from tests.support.served import served
from vita_duplex.cli.slo import FINENESS, Objective, Step, line, picture, search, spoken, summed
from vita_duplex.client.crowd import GAP_S, LOUD, Hearing, Seen
from vita_duplex.client.recording import read_recording

PROMISED = Objective(first_audio_s=2.0, stop_s=0.2, gaps=0.01)


def given_to(sessions: int, first_audio_s: float | None = 1.0, stop_s: float | None = 0.1, **more: Any) -> Step:
    fields = {"replies": 100, "gaps": 0.0, "unanswered": 0, "refused": 0, "late_s": 0.0} | more
    return Step(sessions=sessions, first_audio_s=first_audio_s, stop_s=stop_s, **fields)


@given(st.integers(0, 2000), st.integers(1, 64))
def test_the_search_finds_what_is_held(held: int, first: int) -> None:
    found, steps = search(lambda n: given_to(n, 1.0 if n <= held else 3.0), PROMISED, first, 1024)
    wanted = min(held, 1024)
    assert found <= wanted
    assert wanted - found <= max(1, FINENESS * found)
    assert len(steps) < 30


def test_what_breaks_is_named() -> None:
    assert given_to(8).broken(PROMISED) == []
    assert given_to(8, 2.1, 0.3, gaps=0.02, refused=3).broken(PROMISED) == [
        "3 refused or cut",
        "first audio",
        "stop",
        "gaps",
    ]
    assert given_to(8, None, None, replies=0).broken(PROMISED) == ["no reply"]


def test_a_generator_that_was_late_is_told() -> None:
    assert "LATE" not in line(given_to(8), PROMISED)
    assert "THE GENERATOR WAS LATE: 50 ms" in line(given_to(8, late_s=0.05), PROMISED)


def test_the_picture_has_every_step() -> None:
    drawn = str(picture([given_to(16, 3.0), given_to(8)], PROMISED))
    assert drawn.count("<circle") == 4
    assert ">16<" in drawn


def delta(seconds: float) -> dict[str, Any]:
    return {"type": "response.output_audio.delta", "delta": base64.b64encode(bytes(int(seconds * 24_000) * 2)).decode()}


def test_what_a_user_hears_is_measured() -> None:
    seen = Seen()
    hearing = Hearing(seen)
    hearing.asked(10.0)
    hearing.hears(delta(0.2), 11.0)
    hearing.hears(delta(0.2), 11.2 + GAP_S / 2)
    hearing.interrupts(11.3)
    hearing.hears({"type": "vita.hold"}, 11.4)
    hearing.hears({"type": "vita.resume"}, 15.0)
    hearing.hears(delta(0.2), 15.0)
    hearing.hears({"type": "response.done"}, 15.1)
    assert (seen.first_audio, seen.replies, seen.gaps) == ([1.0], 1, 0), "a pause that was meant is no gap"
    assert seen.stop == [pytest.approx(0.1)]


def test_a_gap_is_what_a_listener_without_a_buffer_hears() -> None:
    seen = Seen()
    hearing = Hearing(seen)
    hearing.hears(delta(0.2), 1.0)
    hearing.hears(delta(0.2), 1.2 + 1.5 * GAP_S)
    hearing.hears({"type": "response.done"}, 2.0)
    assert seen.gaps == 1


def test_a_stock_servers_silence_is_its_news_that_somebody_speaks() -> None:
    seen = Seen()
    hearing = Hearing(seen)
    hearing.hears(delta(0.2), 1.0)
    hearing.interrupts(1.1)
    hearing.hears({"type": "input_audio_buffer.speech_started"}, 1.3)
    hearing.hears({"type": "response.done"}, 1.5)
    assert seen.stop == [pytest.approx(0.2)]


def test_a_recording_is_said_from_its_first_sound_to_its_last() -> None:
    said = spoken(read_recording(DATA / "goforward.flac"))
    assert np.abs(said[:50]).max() > LOUD / 2
    assert summed(1, Seen(first_audio=[1.0, 2.0])).first_audio_s == pytest.approx(1.95)


@pytest.mark.real
def test_a_few_sessions_on_a_real_server(tmp_path: Path) -> None:
    with served("scripted") as port:
        out, drawn = tmp_path / "slo.json", tmp_path / "slo.svg"
        words = ["bench", str(DATA / "goforward.flac"), "--slo", "--url", f"ws://127.0.0.1:{port}/v1/realtime"]
        more = [
            "--first",
            "2",
            "--most",
            "2",
            "--seconds",
            "12",
            "--stop",
            "1",
            "--json",
            str(out),
            "--picture",
            str(drawn),
        ]
        done = subprocess.run([sys.executable, "-m", "vita_duplex", *words, *more], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    [one] = json.loads(out.read_text())["steps"]
    assert one["sessions"] == 2
    assert one["replies"] > 0
    assert drawn.read_text().startswith("<svg")
