"""From a film to the few pictures that the model sees: which frames, and decoding them with OpenCV's FFmpeg.

The frames are those that the demos of VITA 1.0 pick, so that a film means the same here as there. OpenCV, because
vLLM installs it anyway and its FFmpeg is LGPL; PyAV's wheels carry x264 and x265, which are GPL. The price is that
AV1 films are refused: FFmpeg decodes them only on a GPU or with a library that this build lacks.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import cv2
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

# OpenCV takes options of FFmpeg only from the environment: these at every opening, the level of its log at the first.
# FFmpeg would log what it finds in a file, and words of users are in no log.
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"format_whitelist;{CONTAINERS}"
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of each film that it cannot open

Sampling = Callable[[int, float], Sequence[int]]
"""Frame indexes for a number of frames (at least 1) and their rate; ascending, some perhaps more than once."""


class UnusableVideo(ValueError):
    """The film cannot be shown to the model; the message is one line for whoever sent it.

    A `ValueError`, because vLLM answers the request that caused one and goes on serving.
    """


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
        raise UnusableVideo("the video has no frames that can be decoded")
    return [indexes[at] for at in np.linspace(0, len(indexes) - 1, count).astype(int).tolist()]


def sample(encoded: bytes, sampling: Sampling, *, mirrored: bool) -> list[Image.Image]:
    """The frames that `sampling` picks, in order, left and right swapped if `mirrored`.

    Only frames up to the last one picked are decoded, and only those picked become pictures.

    Errors: `UnusableVideo`, also for bytes that are no film.
    """
    with temporary_file(encoded) as path:
        packets, fps = measure(path)
        pictures = decode(path, packets, sampling(packets, fps))
        if pictures is None:
            # Packets may be more than frames (VP8 has invisible ones); now it matters how many really come out.
            pictures = decode(path, packets, sampling(count_frames(path, packets), fps))
    if pictures is None:
        raise UnusableVideo("the video does not decode to the same frames twice")
    return [mirror(picture) for picture in pictures] if mirrored else pictures


@contextmanager
def temporary_file(encoded: bytes) -> Iterator[str]:
    """The path of a file in memory with the film in it.

    OpenCV 5.0 reads bytes as well, but crashes the process on some corrupt ones.
    """
    file = os.memfd_create("video")
    try:
        with open(file, "wb", closefd=False) as whole:
            whole.write(encoded)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)


def measure(path: str) -> tuple[int, float]:
    """Packets in the film, usually one for each frame, and frames a second; reads it all but decodes nothing.

    Errors: `UnusableVideo`.
    """
    with opened(path) as capture:
        capture.set(cv2.CAP_PROP_FORMAT, -1)  # packets as they are
        packets = 0
        while capture.grab():
            packets += 1
            if packets > MAX_FRAMES:
                raise UnusableVideo(f"the video is too long: at most {MAX_FRAMES} frames")
        return packets, capture.get(cv2.CAP_PROP_FPS)


def decode(path: str, packets: int, indexes: Sequence[int]) -> list[Image.Image] | None:
    """The frames at ascending indexes; None when the film ends before the last.

    Errors: `UnusableVideo`.
    """
    wanted, pictures = set(indexes), dict[int, Image.Image]()
    with opened(path) as capture:
        for at in frames_of(capture, packets):
            if at in wanted:
                pictures[at] = picture_of(capture)
                if len(pictures) == len(wanted):
                    return [pictures[index] for index in indexes]
    return None


def count_frames(path: str, packets: int) -> int:
    """Errors: `UnusableVideo`."""
    with opened(path) as capture:
        return sum(1 for _ in frames_of(capture, packets))


def frames_of(capture: cv2.VideoCapture, packets: int) -> Iterator[int]:
    """The index of each frame, decoded and ready to become a picture.

    A frame that fails looks like the end of the film, so as many are asked for as there are packets; one that
    comes after a failure gives the damage away.
    """
    at, failed = 0, False
    for _ in range(packets):
        if not capture.grab():
            failed = True
        elif failed:
            raise UnusableVideo("the video is damaged")
        else:
            yield at
            at += 1


def picture_of(capture: cv2.VideoCapture) -> Image.Image:
    """The current frame in the size of the film, turned as the file asks: OpenCV scales and turns what differs."""
    done, frame = capture.retrieve()
    if not done:
        raise UnusableVideo("the video has colours that cannot be converted")
    return Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


@contextmanager
def opened(path: str) -> Iterator[cv2.VideoCapture]:
    """The film from its beginning, its size checked before a picture is made of it; the others have the same size."""
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise UnusableVideo("the video cannot be decoded")
        check_size(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        yield capture
    except UnusableImage as exc:
        raise UnusableVideo(f"a frame cannot be used: {exc}") from exc
    finally:
        capture.release()
