"""From a film to the few pictures that the model sees: which frames, and decoding them with PyAV.

The frames are those that the demos of VITA 1.0 pick, so that a film means the same here as there.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from vita_duplex.models.tiling import UnusableImage, check_size, mirror

INTERACTIVE_FRAMES = 4
"""Of the few seconds of camera that came with an utterance."""

FEWEST, MOST = 4, 16
"""Frames of a film that somebody uploads."""

MAX_FRAMES = 36_000
"""Twenty minutes at 30 frames a second; a longer film is refused before decoding."""

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,gif"
"""What is opened. The rest of FFmpeg's list has formats that name other files and addresses to read (HLS, concat)."""

Sampling = Callable[[int, float], Sequence[int]]
"""Frame indexes for a number of frames (at least 1) and their rate; ascending, some perhaps more than once."""


class UnusableVideo(ValueError):
    """The film cannot be shown to the model; the message is one line for whoever sent it.

    A `ValueError`, because vLLM answers the request that caused one and goes on serving.
    """


class NoVideoDecoder(RuntimeError):
    """PyAV is not installed here."""

    def __init__(self) -> None:
        super().__init__("films cannot be decoded: PyAV is not installed; run: pip install av")


def interactive(frames: int, fps: float) -> list[int]:
    """Four frames spread over everything, first and last included."""
    return spread(range(frames), INTERACTIVE_FRAMES)


def basic(frames: int, fps: float) -> list[int]:
    """One frame a second; at least 4, some of them twice if need be, and at most 16."""
    stride = max(1, round(fps))  # a rate below one half, or an unknown one given as 0, takes every frame
    seconds = range(0, frames, stride)
    return spread(seconds, min(max(len(seconds), FEWEST), MOST))


def spread(indexes: Sequence[int], count: int) -> list[int]:
    """So many of the indexes at equal distances, rounded down; all of them when count is their number."""
    if not indexes:
        raise UnusableVideo("the video has no frames")
    return [indexes[at] for at in np.linspace(0, len(indexes) - 1, count).astype(int).tolist()]


def sample(film: BinaryIO, sampling: Sampling, *, mirrored: bool) -> list[Image.Image]:
    """The frames that `sampling` picks, in order, left and right swapped if `mirrored`.

    Only frames up to the last one picked are decoded, and only those picked become pictures.

    Errors: `UnusableVideo`, also for bytes that are no film; `NoVideoDecoder` when PyAV is missing.
    """
    frames, fps = measure(film)
    pictures = decode(film, sampling(frames, fps))
    if pictures is None:
        # Packets may be more than frames (VP8 has invisible ones); now it matters how many really come out.
        pictures = decode(film, sampling(count_frames(film), fps))
    if pictures is None:
        raise UnusableVideo("the video does not decode to the same frames twice")
    return [mirror(picture) for picture in pictures] if mirrored else pictures


def measure(film: BinaryIO) -> tuple[int, float]:
    """How many frames the film should have and how many a second; reads it all but decodes nothing.

    Errors: `UnusableVideo`, `NoVideoDecoder`.
    """
    with opened(film) as container:
        stream = first_stream(container)
        frames = 0
        for packet in container.demux(stream):
            frames += packet.size > 0  # the last packet is empty: it flushes the decoder
            if frames > MAX_FRAMES:
                raise UnusableVideo(f"the video is too long: at most {MAX_FRAMES} frames")
        return frames, float(stream.average_rate or stream.guessed_rate or 0)


def decode(film: BinaryIO, indexes: Sequence[int]) -> list[Image.Image] | None:
    """The frames at ascending indexes; None when the film ends before the last.

    Errors: `UnusableVideo`, `NoVideoDecoder`.
    """
    wanted, pictures = set(indexes), dict[int, Image.Image]()
    with opened(film) as container:
        for at, frame in enumerate(frames_of(container)):
            if at in wanted:
                pictures[at] = upright(frame)
                if len(pictures) == len(wanted):
                    return [pictures[index] for index in indexes]
    return None


def count_frames(film: BinaryIO) -> int:
    """Errors: `UnusableVideo`, `NoVideoDecoder`."""
    with opened(film) as container:
        return sum(1 for _ in frames_of(container))


def frames_of(container: Any) -> Iterator[Any]:
    """Decoded frames, each checked for its size before a picture is made of it."""
    stream = first_stream(container)
    stream.thread_type = "AUTO"
    for frame in container.decode(stream):
        check_size(frame.width, frame.height)
        yield frame


def upright(frame: Any) -> Image.Image:
    """The frame as a picture, turned as the file asks: a telephone held upright still records lying down."""
    picture: Image.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation % 360 else picture


def first_stream(container: Any) -> Any:
    if not container.streams.video:
        raise UnusableVideo("the file has no video in it")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise UnusableVideo("the video is coded in a way that FFmpeg does not know")
    check_size(stream.width, stream.height)
    return stream


@contextmanager
def opened(film: BinaryIO) -> Iterator[Any]:
    """The film in PyAV from its beginning; what FFmpeg says about it becomes `UnusableVideo`."""
    try:
        av = importlib.import_module("av")
    except ImportError as exc:
        raise NoVideoDecoder from exc
    film.seek(0)
    try:
        with av.open(film, options={"format_whitelist": CONTAINERS}, metadata_errors="replace") as container:
            yield container
    except UnusableImage as exc:
        raise UnusableVideo(f"a frame cannot be used: {exc}") from exc
    except (av.FFmpegError, EOFError) as exc:
        raise UnusableVideo("the video cannot be decoded") from exc
