"""`vita-duplex ask`: what is wrong with a question is told in one line, before anything is loaded."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.support.paths import ROOT
from vita_duplex.cli.ask import AskError, read_frames, read_question, settings_for_ask
from vita_duplex.cli.ask import ask as ask_instance
from vita_duplex.config import Config
from vita_duplex.engine.messages import Query
from vita_duplex.models.naming import settings_of
from vita_duplex.server.parts import vitas

TINY = ROOT / "tests" / "golden" / "tiny_vita"


def ask(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "vita_duplex.cli.main", "ask", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def test_a_picture_is_seen_as_bytes_of_red_green_and_blue(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    (seen,) = read_frames(tmp_path / "a.png", None)
    np.testing.assert_array_equal(seen, levels)
    assert read_frames(None, None) == ()


def test_a_sound_is_heard_at_16_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((48_000, 2), 0.25, np.float32), 48_000)
    heard = read_question(None, tmp_path / "a.wav").samples
    assert heard is not None
    assert heard.dtype == np.float32
    assert len(heard) == 16_000
    assert heard[8000] == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("no.png", None, "cannot read .*no.png: No such file"),
        ("bad.png", b"nope", "bad.png: the image cannot be decoded"),
        ("empty.png", b"", "empty.png: the image is empty"),
        ("no.mp4", None, "cannot read .*no.mp4: No such file"),
        ("bad.mp4", b"nope", "bad.mp4: (the video cannot be decoded|films cannot be decoded: PyAV)"),
        ("no.wav", None, "cannot read .*no.wav: No such file"),
        ("bad.wav", b"nope", "bad.wav: the audio cannot be decoded .*; taken are WAV"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes | None, told: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    take = {
        ".png": lambda: read_frames(path, None),
        ".mp4": lambda: read_frames(None, path),
        ".wav": lambda: read_question(None, path),
    }
    with pytest.raises(AskError, match=told) as caught:
        take[path.suffix]()
    assert "\n" not in str(caught.value)


def test_a_sound_without_a_single_token_and_an_empty_text_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1359, np.float32), 16_000)
    with pytest.raises(AskError, match=r"too short: 84\.9 ms, at least 85"):
        read_question(None, tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros(1360, np.float32), 16_000)
    assert read_question(None, tmp_path / "a.wav").samples is not None
    with pytest.raises(AskError, match="empty"):
        read_question("  ", None)


def test_a_question_in_peace_is_written_as_in_training_and_a_film_has_one_tile_per_frame() -> None:
    engine = Config.model_validate({"engine": {"kind": "vita", "instances": 2}}).engine
    assert (settings_for_ask(engine, False).vita.layout, settings_for_ask(engine, False).instances) == (
        "conversation",
        1,
    )
    assert settings_for_ask(engine, False).vita.max_dynamic_patch is None
    assert settings_for_ask(engine, True).vita.max_dynamic_patch == 1
    with pytest.raises(AskError, match="scripted"):
        settings_for_ask(Config.model_validate({"engine": {"kind": "scripted"}}).engine, False)


def test_a_folder_is_vita_by_its_configuration(tmp_path: Path) -> None:
    assert settings_of(tmp_path) is None


def test_a_text_model_sees_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    code, out, err = ask("--image", tmp_path / "a.png", "--text", "What is this?")
    assert (code, out) == (2, "")
    assert err == "vita-duplex: smollm2 sees nothing: pictures and films want a VITA checkpoint (--model DIR)\n"


@pytest.mark.real
def test_the_tiny_checkpoint_is_asked_about_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    code, out, err = ask(
        "--model", TINY, "--image", tmp_path / "a.png", "--text", "?", "--set", "engine.vita.max_tokens=9"
    )
    assert code == 0, err
    verdict, empty, *answer = out.splitlines()
    assert verdict == "verdict  <3> typed  (<1> 0.00  <2> 0.00  <3> 1.00)"
    assert empty == ""
    assert "".join(answer)
    assert "VITA model ready" in err


ORIGINALS = {
    "1.0": (TINY, (3, 4, 5), 2),
    "1.5": (ROOT / "tests" / "golden15" / "tiny_vita15", (315, 291, 267), 492),
}


@pytest.mark.real
@pytest.mark.parametrize("version", ORIGINALS)
def test_every_kind_of_question_gets_a_verdict(
    tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one process, for each start of an engine takes half a minute."""
    from tests.support.judging_by_ear import NOISE, QUERY, judging_by_ear

    original, states, end = ORIGINALS[version]
    model = judging_by_ear(original, tmp_path / "vita", states, end)
    vita = {"model": str(model), "dtype": "float32", "kv_cache_mib": 64, "max_tokens": 9}
    engine = settings_for_ask(Config.model_validate({"engine": {"kind": "vita", "vita": vita}}).engine, False)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    for name, sound in (("query", np.pad(QUERY, 6000)), ("noise", np.pad(NOISE, 6000))):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([sound, np.zeros_like(sound)], axis=1), 16_000)
    film = ROOT / "tests" / "data" / "film-h264.mp4"
    typed, spoken, rejected = "<3> typed", "<1> meant for the assistant", "<2> not meant for the assistant"
    questions = [
        (None, None, "Hello?", None, typed),
        (tmp_path / "a.png", None, "What is this?", None, typed),
        (None, film, "What is this?", None, typed),
        (None, None, None, "query.wav", spoken),
        (tmp_path / "a.png", None, None, "query.wav", spoken),
        (None, film, None, "query.wav", spoken),
        (None, film, None, "noise.wav", rejected),
    ]
    [instance] = vitas(engine, ["a"], lambda share, what: None, engines=1)

    async def ask_all() -> None:
        for image, video, text, audio, said in questions:
            question = read_question(text, tmp_path / audio if audio else None)
            query = Query((), (question,), frames=read_frames(image, video))
            await ask_instance(instance, query, 0.5)
            verdict, empty, *answer = capsys.readouterr().out.splitlines()
            assert verdict.startswith(f"verdict  {said}  (<1> "), (image, video, text, audio)
            assert empty == ""
            unanswered = "The utterance was judged not to be for the assistant; there is no answer."
            assert (answer == [unanswered]) == (said is rejected)
            assert "".join(answer)

    try:
        asyncio.run(ask_all())
    finally:
        instance.close()


@pytest.mark.real
def test_a_folder_without_a_model_is_told_in_one_line(tmp_path: Path) -> None:
    code, out, err = ask("--model", tmp_path, "--text", "hello")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(f"the folder {tmp_path} has no config.json: there is no model in it")
