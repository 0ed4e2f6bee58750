"""The media of a chat request: taken out of it and decoded once, so that whatever is wrong is told before an engine
hears of it. Blocks.

Decoded by the one reader of recordings, Pillow and OpenCV's FFmpeg, the sizes looked at first: a small file may hold a
huge medium.
"""

import base64
import re

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.messages import ChatAudio, ChatImage, ChatVideo
from vita_duplex.engine.recordings.containers import Unreadable
from vita_duplex.engine.recordings.reader import opened, read
from vita_duplex.models import video
from vita_duplex.models.audio_features import AudioError, AudioFeatures
from vita_duplex.models.tiling import MAX_PIXELS, UnusableImage, open_image
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.base64_text import unbase64
from vita_duplex.server.errors import ClientError

MOST_MEDIA = 64
"""Images, videos and audio files in one request, those of earlier messages included."""
LONGEST_S = 200
"""Seconds of one audio file: what VITA's encoder has positions for."""
LONGEST_RECORDING_S = 1800
"""Seconds of a recording that is only written down: 115 MB of samples."""


class Media:
    """Takes the media of one request, one after the other."""

    def __init__(self) -> None:
        self._count = self._pixels = 0

    def audio(self, data: str, param: str) -> ChatAudio:
        """Of base64. Errors: `ClientError`, here and below."""
        if data.startswith(("http:", "https:")):
            raise ClientError(
                "invalid_audio", "this must be base64 or a data URL; the server fetches nothing", param=param
            )
        encoded = self._bytes(data, "invalid_audio", param)
        try:
            samples, rate = read(encoded, LONGEST_S)
            return ChatAudio(AudioFeatures.samples(samples, rate))
        except (Unreadable, AudioError) as no:
            raise ClientError("invalid_audio", str(no), param=param) from no

    def image(self, url: str, param: str) -> ChatImage:
        try:
            kind, data = self._data(url, "image/", "invalid_image", param)
            opened = open_image(data)
        except UnusableImage as no:
            raise ClientError("invalid_image", str(no), param=param) from no
        self._pixels += opened.width * opened.height
        if self._pixels > MAX_PIXELS:
            message = f"the images of a request may have {MAX_PIXELS / 1e6:.0f} megapixels together"
            raise ClientError("invalid_image", message, param=param)
        return ChatImage(data_url(kind, data))

    def video(self, url: str, param: str) -> ChatVideo:
        try:
            kind, data = self._data(url, "video/", "invalid_video", param)
            video.sample(data, video.basic, mirrored=False)
        except video.UnusableVideo as no:
            raise ClientError("invalid_video", str(no), param=param) from no
        return ChatVideo(data_url(kind, data))

    def _data(self, url: str, kind: str, code: str, param: str) -> tuple[str, bytes]:
        """The media type and the bytes of a data URL (RFC 2397)."""
        head, _, data = url.partition(",")
        found = re.fullmatch(rf"data:({kind}[\w.+-]+)(;[^;,]+)*;base64", head, re.IGNORECASE)
        if not found:
            message = f"this must be a data URL of {kind}* in base64; the server fetches nothing"
            raise ClientError(code, message, param=param)
        return found[1].lower(), self._bytes(data, code, param)

    def _bytes(self, data: str, code: str, param: str) -> bytes:
        self._count += 1
        if self._count > MOST_MEDIA:
            message = f"a request may have {MOST_MEDIA} images, videos and audio files"
            raise ClientError("too_many_media", message, param=param)
        try:
            return unbase64(data)
        except ValueError as no:
            raise ClientError(code, "this is not base64", param=param) from no


def data_url(kind: str, data: bytes) -> str:
    """As vLLM reads it: without parameters, in standard base64."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def decode_recording(encoded: bytes, param: str) -> Samples:
    """The loudest channel of a recording at 16 kHz. Blocks. Errors: `ClientError`."""
    try:
        recording = opened(encoded, LONGEST_RECORDING_S)
        resampler = Resampler(recording.rate, INPUT_RATE)
        pieces = [resampler.push(block) for block in recording.blocks()]
    except Unreadable as no:
        raise ClientError("invalid_audio", str(no), param=param) from no
    return np.concatenate([np.zeros(0, np.float32), *pieces, resampler.finish()])
