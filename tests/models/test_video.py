"""Which frames of a film are taken, against the indexes of the original demos; and films that nobody should send."""

import contextlib
import ctypes
import io
import json
import os
import struct
import tempfile
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.support.paths import DATA, GOLDEN
from vita_duplex.models import tiling, video
from vita_duplex.models.video import UnusableVideo, basic, interactive, sample, spread

RECORDED = json.loads((GOLDEN / "video_sampling.json").read_text())
H264 = DATA / "film-h264.mp4"


@pytest.mark.parametrize("film", RECORDED, ids=lambda film: f"{film['frames']} frames")
def test_the_frames_are_the_recorded_ones(film: dict[str, Any]) -> None:
    assert interactive(film["frames"], film["fps"]) == film["interactive_4"]
    assert basic(film["frames"], film["fps"]) == film["basic_1fps_4_16"]


@pytest.mark.parametrize("fps", [0.0, 0.01, 0.5, 1.0, 7.3, 59.94, 1000.0])
@pytest.mark.parametrize("frames", [1, 2, 5, 16, 17, 100, 1999])
def test_any_rate_gives_frames_that_exist(frames: int, fps: float) -> None:
    picked = basic(frames, fps)
    assert 4 <= len(picked) <= 16
    assert picked == sorted(picked)
    assert 0 <= picked[0] <= picked[-1] < frames


def test_no_frames_are_an_error() -> None:
    for sampling in (interactive, basic):
        with pytest.raises(UnusableVideo, match="no frames"):
            sampling(0, 25)


def test_spreading_over_as_many_changes_nothing() -> None:
    for count in range(1, 200):
        assert spread(range(0, 7 * count, 7), count) == list(range(0, 7 * count, 7))


def film(frames: int, *, codec: str = "mp4v", kind: str = "mp4", width: int = 64, height: int = 48) -> bytes:
    """Ten frames a second; frame n has the grey level 6n + 40 on its left and black on its right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"film.{kind}"
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10, (width, height))
        for number in range(frames):
            picture = np.zeros((height, width, 3), np.uint8)
            picture[:, : width // 2] = 6 * number + 40
            writer.write(picture)
        writer.release()
        return path.read_bytes()


def numbers(pictures: list[Any], side: int) -> list[int]:
    """Which frame each picture is, read from the grey of its left (0) or right (1) half; writers darken it a little."""
    greys = [np.asarray(picture)[8:-8, 8 + 32 * side : 24 + 32 * side].mean() for picture in pictures]
    return [round((grey - 38.5) / 6) for grey in greys]


def test_the_decoder_is_not_gpl() -> None:
    """The wheel's own word, so that a newer one that brings x264 along is noticed."""
    (path,) = [file.locate() for file in files("opencv-python-headless") or () if "libavcodec" in file.name]
    ffmpeg = ctypes.CDLL(str(path))
    for says in (ffmpeg.avcodec_license, ffmpeg.avcodec_configuration):
        says.restype = ctypes.c_char_p
    assert ffmpeg.avcodec_license() == b"LGPL version 2.1 or later"
    assert b"x26" not in ffmpeg.avcodec_configuration()


@pytest.mark.parametrize(
    "make",
    [
        lambda: film(32),
        lambda: film(32, codec="VP80", kind="webm"),
        lambda: film(32, codec="VP90", kind="webm"),
        lambda: film(32, codec="MJPG", kind="avi"),
        H264.read_bytes,
    ],
    ids=["MPEG-4", "VP8", "VP9", "Motion JPEG", "H.264"],
)
def test_a_film_is_decoded_frame_by_frame(make: Callable[[], bytes]) -> None:
    recording = make()
    pictures = sample(recording, interactive, mirrored=False)
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (64, 48))] * 4
    assert numbers(pictures, 0) == interactive(32, 10) == [0, 10, 20, 31]
    assert numbers(sample(recording, basic, mirrored=False), 0) == [0, 10, 20, 30]


def test_red_stays_red() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "red.avi")
        writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # blue, green, red
        writer.release()
        (picture, *_) = sample(Path(path).read_bytes(), interactive, mirrored=False)
    assert np.allclose(np.asarray(picture)[24, 32], (255, 0, 0), atol=4)


def test_mirrored_frames_have_left_on_the_right() -> None:
    assert numbers(sample(film(8), interactive, mirrored=True), 1) == [0, 2, 4, 7]


def test_a_film_recorded_upright_is_turned() -> None:
    lying = film(8)
    one = b"\0\1\0\0"
    straight = one + bytes(12) + one  # the display matrix of MP4 up to its fifth number
    turned = bytes(4) + one + bytes(4) + b"\xff\xff\0\0" + bytes(4)  # a quarter to the right
    track = lying.index(b"tkhd")
    assert lying.count(straight, track) == 1
    picture = sample(lying[:track] + lying[track:].replace(straight, turned), interactive, mirrored=False)[-1]
    assert picture.size == (48, 64)
    assert np.asarray(picture)[8:24].mean() > 60  # what was left is now at the top
    assert np.asarray(picture)[40:56].mean() < 10


def test_a_film_of_one_frame_gives_it_four_times() -> None:
    assert numbers(sample(film(1), interactive, mirrored=False), 0) == [0, 0, 0, 0]


def test_only_the_frames_picked_become_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(video, "picture_of", lambda capture: made.append(capture.get(cv2.CAP_PROP_POS_FRAMES)))
    sample(film(32), interactive, mirrored=False)
    assert made == [1, 11, 21, 32]


def test_more_packets_than_frames_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "measure", lambda film: (12, 10.0))
    assert numbers(sample(film(8), interactive, mirrored=False), 0) == [0, 2, 4, 7]


def test_a_film_whose_frames_are_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "MAX_PIXELS", 64 * 48)
    assert sample(film(8), interactive, mirrored=False)
    monkeypatch.setattr(tiling, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(UnusableVideo, match="too large: 64x48"):
        sample(film(8), interactive, mirrored=False)


def test_a_film_cannot_outgrow_the_size_that_was_checked() -> None:
    small, large = film(8, kind="ts"), film(8, kind="ts", width=320, height=240)
    pictures = sample(small + large, interactive, mirrored=False)
    assert {picture.size for picture in pictures} == {(64, 48)}
    assert numbers(pictures, 0)[0] == 0
    assert numbers(pictures, 0)[-1] >= 6  # of the large part


def test_a_film_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_FRAMES", 7)
    with pytest.raises(UnusableVideo, match="too long: at most 7 frames"):
        sample(film(8), interactive, mirrored=False)


@pytest.mark.parametrize(
    "damage", ["nothing", "text", "a picture", "half", "noise", "noise in a frame", "unknown codec", "sound only"]
)
def test_a_corrupt_film_is_refused(damage: str) -> None:
    whole = film(32)
    noise = np.random.default_rng(3).bytes
    picture, sound = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")
    soundfile.write(sound, np.zeros(16_000), 16_000, format="OGG", subtype="VORBIS")
    files = {
        "nothing": b"",
        "text": b"this is no film at all" * 100,
        "a picture": picture.getvalue(),
        "half": whole[: len(whole) // 2],
        "noise": whole[:32] + noise(len(whole)),
        "noise in a frame": whole[:773] + noise(200) + whole[973:],
        "unknown codec": film(8, kind="mkv").replace(b"V_MPEG4", b"V_WHAT4"),
        "sound only": sound.getvalue(),
    }
    with pytest.raises(UnusableVideo):
        sample(files[damage], interactive, mirrored=False)


def test_a_list_of_files_opens_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(film(8))
    with (tmp_path / "secret.mp4").open("rb") as secret, pytest.raises(UnusableVideo, match="cannot be decoded"):
        sample(f"ffconcat version 1.0\nfile {secret.fileno()}\n".encode(), interactive, mirrored=False)


def test_a_film_that_points_before_its_beginning_is_refused() -> None:
    """OpenCV reading from bytes dies of it."""
    whole = film(8)
    at = whole.index(b"stco") + 12
    with pytest.raises(UnusableVideo):
        sample(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :], interactive, mirrored=False)


def test_no_film_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    for attempt in (film(8), b"no film"):
        with contextlib.suppress(UnusableVideo):
            sample(attempt, interactive, mirrored=False)
    assert os.listdir("/proc/self/fd") == before


def test_nothing_of_a_film_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    films = film(8, kind="mkv"), film(8)[:200], b"no film"
    capfd.readouterr()  # of those who wrote them
    sample(films[0], interactive, mirrored=False)
    for damaged in films[1:]:
        with pytest.raises(UnusableVideo):
            sample(damaged, interactive, mirrored=False)
    assert "".join(capfd.readouterr()) == ""


def test_a_film_that_a_telephone_turned_is_seen_upright() -> None:
    film = (DATA / "film-h264.mp4").read_bytes()
    at = film.find(b"tkhd") + 4 + 40
    straight = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    assert film[at : at + 36] == struct.pack(">9i", *straight)
    quarter = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    [first, *_] = video.sample(film, video.basic, mirrored=False)
    [turned, *_] = video.sample(film[:at] + quarter + film[at + 36 :], video.basic, mirrored=False)
    assert (first.size, turned.size) == ((64, 48), (48, 64))


def test_sound_alone_is_no_film() -> None:
    for name in ("voice.m4a", "voice.webm"):
        with pytest.raises(video.UnusableVideo):
            video.sample((DATA / "recordings" / name).read_bytes(), video.basic, mirrored=False)


def test_two_hours_are_refused_by_their_packets_and_one_frame_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_FRAMES", 31)
    with pytest.raises(UnusableVideo, match="too long: at most 31 frames"):
        sample((DATA / "film-h264.mp4").read_bytes(), basic, mirrored=False)
    assert len(sample(film(1), basic, mirrored=False)) == 4
