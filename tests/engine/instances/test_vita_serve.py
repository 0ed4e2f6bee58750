"""Somebody else's vLLM server with our plugin installed: chats with every kind of medium over HTTP, and broken ones."""

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.support.paths import DATA
from tests.support.tiny_vita import CASES, picture, source
from tests.support.vllm_server import TINY, VllmServer, vllm_server
from vita_duplex.models.tiling import MAX_PIXELS

pytestmark = pytest.mark.real

H264 = DATA / "film-h264.mp4"
TEXT = {"type": "text", "text": "what is this?"}


@pytest.fixture(scope="module")
def server() -> Iterator[VllmServer]:
    with vllm_server("--limit-mm-per-prompt", '{"image": 4, "audio": 2, "video": 1}') as server:
        yield server


def ask(server: VllmServer, *content: Any) -> tuple[int, dict[str, Any]]:
    """The status and the answer to one message of a user."""
    body = {
        "model": str(TINY),
        "messages": [{"role": "user", "content": list(content)}],
        "max_tokens": 4,
        "temperature": 0,
        "return_token_ids": True,
    }
    request = urllib.request.Request(
        f"{server.address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


def as_url(kind: str, data: bytes, mime: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": f"data:{mime};base64,{base64.b64encode(data).decode()}"}}


def shown(image: Image.Image) -> dict[str, Any]:
    png = io.BytesIO()
    image.save(png, format="PNG")
    return as_url("image_url", png.getvalue(), "image/png")


def heard(samples: Any, rate: int = 16_000, subtype: str = "FLOAT") -> dict[str, Any]:
    wave = io.BytesIO()
    soundfile.write(wave, samples, rate, format="WAV", subtype=subtype)
    return spoken(wave.getvalue())


def spoken(data: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def played(folder: Path) -> dict[str, Any]:
    """Six seconds at 10 frames a second."""
    import cv2  # comes with vLLM

    path = str(folder / "film.mp4")
    film = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (64, 48))
    for level in range(60):
        film.write(np.full((48, 64, 3), level * 4, np.uint8))
    film.release()
    return as_url("video_url", Path(path).read_bytes(), "video/mp4")


TONE = source("wave_mid").numpy()


def test_chats_are_answered_as_recorded(server: VllmServer, tmp_path: Path) -> None:
    """The plugin is found by its entry point; nothing names it."""
    for name, *content in (
        ("text", {"type": "text", "text": "the user is in the boat and you? 你好"}),
        ("image", shown(picture("single")), TEXT),
        ("image_audio", heard(TONE), shown(picture("single"))),
    ):
        status, answer = ask(server, *content)
        assert status == 200
        assert answer["prompt_token_ids"] == CASES[name].ids("expanded_ids")
        assert answer["choices"][0]["token_ids"] == CASES[name].greedy[:4]
    status, answer = ask(server, played(tmp_path), TEXT)
    assert (status, answer["prompt_token_ids"].count(500)) == (200, 6 * 4)
    status, answer = ask(server, heard(np.tile(TONE, 3), 48_000))
    assert (status, answer["prompt_token_ids"].count(501)) == (200, 12)


LARGE = Image.new("1", (10_000, MAX_PIXELS // 10_000 + 1))
HUGE = Image.new("1", (10_000, 2 * MAX_PIXELS // 10_000 + 1))
"""Pillow itself refuses it, with an error of its own."""


def crashing() -> bytes:
    """A film whose index points before its beginning; OpenCV reading it from memory, as vLLM does, dies of it."""
    whole = H264.read_bytes()
    at = whole.index(b"stco") + 12
    return whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([heard(TONE[:1000])], "audio of 1000 samples"),
        ([heard(np.zeros(600 * 16_000, np.float32), subtype="PCM_16")], "600.0 s; the encoder takes 200 s"),
        ([shown(LARGE)], "the image is too large"),
        ([shown(HUGE)], "the image is too large"),
        ([as_url("image_url", b"no picture", "image/png")], "the image cannot be decoded"),
        ([spoken(b"RIFF no audio")], "the audio cannot be decoded"),
        ([spoken(b"no audio at all")], "the audio cannot be decoded"),
        ([as_url("video_url", b"no film", "video/mp4")], "the video cannot be decoded"),
        ([as_url("video_url", crashing(), "video/mp4")], "the video"),
        ([shown(picture("single"))] * 5, "At most 4 image"),
        ([{"type": "text", "text": "a" * 20_000}], "maximum context length"),
    ],
    ids=[
        "short",
        "long",
        "large",
        "huge",
        "no picture",
        "no audio",
        "nothing like audio",
        "no film",
        "a film that crashes",
        "many",
        "wordy",
    ],
)
def test_what_cannot_be_answered_is_the_clients_fault(server: VllmServer, content: Any, said: str) -> None:
    status, answer = ask(server, *content)
    assert status == 400
    assert said in answer["error"]["message"]
    status, answer = ask(server, heard(TONE), shown(picture("single")))
    assert (status, answer["choices"][0]["token_ids"]) == (200, CASES["image_audio"].greedy[:4])


def test_of_two_channels_the_first_is_heard(server: VllmServer) -> None:
    [status, answer], [_, of_one] = (
        ask(server, heard(samples), shown(picture("single")))
        for samples in (np.stack([TONE, np.flip(TONE)], axis=1), TONE)
    )
    assert status == 200
    assert answer["choices"][0]["token_ids"] == of_one["choices"][0]["token_ids"] == CASES["image_audio"].greedy[:4]


def test_placeholders_that_somebody_types_are_words(server: VllmServer) -> None:
    status, answer = ask(server, TEXT, {"type": "text", "text": "<image><audio><video>"})
    assert status == 200
    assert not {500, 501} & set(answer["prompt_token_ids"])
