"""Which frames of a film are taken, against the indexes of the original demos; and films that nobody should send."""

import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vita_duplex.models import video
from vita_duplex.models.video import NoVideoDecoder, UnusableVideo, basic, interactive, sample, spread

RECORDED = json.loads((Path(__file__).parent / "golden" / "video_sampling.json").read_text())
needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is not installed")


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


def test_without_a_decoder_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NoVideoDecoder, match="pip install av"):
        sample(io.BytesIO(b"film"), interactive, mirrored=False)


def film(frames: int, *, fps: int = 10, codec: str = "mpeg4", kind: str = "mp4") -> io.BytesIO:
    """Frame n has the grey level 6n + 40 on its left and black on its right."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for number in range(frames):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:, :32] = 6 * number + 40
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    return file


def numbers(pictures: list[Any], side: int) -> list[int]:
    """Which frame each picture is, read from the grey of its left (0) or right (1) half."""
    greys = [np.asarray(picture)[8:-8, 8 + 32 * side : 24 + 32 * side].mean() for picture in pictures]
    return [round((grey - 40) / 6) for grey in greys]


@needs_av
@pytest.mark.parametrize(("codec", "kind"), [("mpeg4", "mp4"), ("libvpx", "webm"), ("libx264", "matroska")])
def test_a_film_is_decoded_frame_by_frame(codec: str, kind: str) -> None:
    import av

    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    recording = film(32, codec=codec, kind=kind)
    pictures = sample(recording, interactive, mirrored=False)
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (64, 48))] * 4
    assert numbers(pictures, 0) == interactive(32, 10) == [0, 10, 20, 31]
    assert numbers(sample(recording, basic, mirrored=False), 0) == [0, 10, 20, 30]


@needs_av
def test_mirrored_frames_have_left_on_the_right() -> None:
    assert numbers(sample(film(8), interactive, mirrored=True), 1) == [0, 2, 4, 7]


@needs_av
def test_a_film_recorded_upright_is_turned() -> None:
    lying = film(8).getvalue()
    one = b"\0\1\0\0"
    straight = one + bytes(12) + one  # the display matrix of MP4 up to its fifth number
    turned = bytes(4) + one + bytes(4) + b"\xff\xff\0\0" + bytes(4)  # a quarter to the right
    track = lying.index(b"tkhd")
    assert lying.count(straight, track) == 1
    picture = sample(io.BytesIO(lying[:track] + lying[track:].replace(straight, turned)), interactive, mirrored=False)[
        -1
    ]
    assert picture.size == (48, 64)
    assert np.asarray(picture)[8:24].mean() > 60  # what was left is now at the top
    assert np.asarray(picture)[40:56].mean() < 10


@needs_av
def test_a_film_of_one_frame_gives_it_four_times() -> None:
    assert numbers(sample(film(1), interactive, mirrored=False), 0) == [0, 0, 0, 0]


@needs_av
def test_more_packets_than_frames_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "measure", lambda film: (12, 10.0))
    assert numbers(sample(film(8), interactive, mirrored=False), 0) == [0, 2, 4, 7]


@needs_av
def test_a_film_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_FRAMES", 7)
    with pytest.raises(UnusableVideo, match="too long: at most 7 frames"):
        sample(film(8), interactive, mirrored=False)


@needs_av
@pytest.mark.parametrize(
    "damage", ["nothing", "text", "half", "a playlist", "noise inside", "unknown codec", "sound only"]
)
def test_a_corrupt_film_is_refused(damage: str) -> None:
    whole = film(32).getvalue()
    files = {
        "nothing": b"",
        "text": b"this is no film at all" * 100,
        "half": whole[: len(whole) // 2],
        "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "noise inside": whole[:32] + np.random.default_rng(2).bytes(len(whole)),
        "unknown codec": film(8, kind="matroska").getvalue().replace(b"V_MPEG4", b"V_WHAT4"),
        "sound only": sound(),
    }
    with pytest.raises(UnusableVideo):
        sample(io.BytesIO(files[damage]), interactive, mirrored=False)


@needs_av
def test_names_that_are_no_text_do_no_harm() -> None:
    whole = film(8).getvalue()
    assert b"Lavf" in whole
    recording = io.BytesIO(whole.replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert numbers(sample(recording, interactive, mirrored=False), 0) == [0, 2, 4, 7]


def sound() -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
