"""How a vLLM server opens media with our plugin: as our own server does."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.support.paths import DATA
from tests.support.tiny_vita import CHECKPOINT
from vita_duplex.engine.instances.vita import VitaInstanceConfig
from vita_duplex.engine.instances.vllm_engine import set_environment
from vita_duplex.models import video
from vita_duplex.models.audio_features import AudioError
from vita_duplex.models.tiling import MAX_PIXELS, UnusableImage
from vita_duplex.models.video import UnusableVideo

pytestmark = [pytest.mark.real, pytest.mark.vllm]

H264 = DATA / "film-h264.mp4"


@pytest.fixture(scope="module")
def connector() -> Any:
    set_environment(VitaInstanceConfig(model=str(CHECKPOINT)))
    from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY

    from vita_duplex.models.media import CONNECTOR

    return MEDIA_CONNECTOR_REGISTRY.load(CONNECTOR)


def url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_the_first_channel_is_heard(connector: Any, kind: str) -> None:
    left, right = np.sin(np.arange(8000) / 9), np.zeros(8000)
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, right], axis=1), 8000, format=kind)
    samples, rate = connector.fetch_audio(url("audio/any", file.getvalue()))
    assert (samples.shape, samples.dtype, rate) == ((8000,), np.float32, 8000)
    np.testing.assert_allclose(samples, left, atol=0.05)


@pytest.mark.parametrize("data", [b"", b"no audio", b"RIFF no audio", b"fLaC"], ids=repr)
def test_what_is_no_audio_is_refused(connector: Any, data: bytes) -> None:
    with pytest.raises(AudioError, match="cannot be decoded"):
        connector.fetch_audio(url("audio/wav", data))


def test_a_picture_is_turned_upright_and_its_transparency_dropped(connector: Any) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 5, 4), dtype=np.uint8)
    picture = Image.fromarray(levels)
    exif = picture.getexif()
    exif[0x0112] = 3  # upside down
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    shown = connector.fetch_image(url("image/png", file.getvalue()))
    np.testing.assert_array_equal(np.asarray(shown.media), levels[::-1, ::-1, :3])


@pytest.mark.parametrize("times", [1, 2], ids=["large", "too large for Pillow"])
async def test_a_large_picture_is_refused(connector: Any, times: int) -> None:
    picture = url("image/png", encoded(Image.new("1", (10_000, times * MAX_PIXELS // 10_000 + 1))))
    with pytest.raises(UnusableImage, match="too large"):
        await connector.fetch_image_async(picture)


async def test_a_film_is_the_frames_that_the_model_sees(connector: Any) -> None:
    film = H264.read_bytes()
    frames, metadata = await connector.fetch_video_async(url("video/mp4", film))
    chosen = video.sample(film, video.basic, mirrored=False)
    np.testing.assert_array_equal(frames, np.stack(chosen))

    from vita_duplex.models.processing import chosen_frames

    np.testing.assert_array_equal(chosen_frames(frames, metadata), frames)


def test_a_film_may_come_as_pictures(connector: Any) -> None:
    pictures = [Image.new("RGB", (32, 24), (level, 0, 0)) for level in (40, 120, 200)]
    film = ",".join(base64.b64encode(encoded(one, "JPEG")).decode() for one in pictures)
    frames, _ = connector.fetch_video(f"data:video/jpeg;base64,{film}")
    assert frames.shape == (3, 24, 32, 3)
    assert [round(one[..., 0].mean(), -1) for one in frames] == [40, 120, 200]


def test_a_film_that_crashes_vllms_reader_is_refused(connector: Any) -> None:
    whole = H264.read_bytes()
    at = whole.index(b"stco") + 12
    for film in (whole[:at] + b"\xff" * 4 + whole[at + 4 :], whole[: len(whole) // 2], b"no film", b""):
        with pytest.raises(UnusableVideo):
            connector.fetch_video(url("video/mp4", film))
