"""How a vLLM server opens the media in a chat for this model: as our own server does, with the same limits and errors.

vLLM's connector fetches them (data, http and file addresses, allowed domains, time limits, its cache); only the bytes
are decoded here. What cannot be decoded is an error of whoever sent it. Written for vLLM 0.32.
"""

import os
from io import BytesIO
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from vllm import envs
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector, MediaIO, MediaWithBytes
from vllm.multimodal.media.audio import AudioMediaIO, load_audio
from vllm.multimodal.media.image import ImageMediaIO
from vllm.multimodal.media.video import VideoMediaIO

from vita_duplex.models import video
from vita_duplex.models.audio_features import AudioError
from vita_duplex.models.tiling import open_image

CONNECTOR = "vita"


def use_own_readers() -> None:
    """Have vLLM open media in this way in this process; the variable is vLLM's own, and a user's choice stays."""
    os.environ.setdefault("VLLM_MEDIA_CONNECTOR", CONNECTOR)


class AudioReader(AudioMediaIO):
    """Channel 0; vLLM's own reader gives the mean of all. Errors: `AudioError`, `ValueError`."""

    def load_bytes(self, data: bytes) -> tuple[Any, float]:
        self._validate_encoded_size(len(data))
        try:
            samples, rate = load_audio(
                BytesIO(data),
                sr=None,
                mono=False,
                max_duration_s=envs.VLLM_MAX_AUDIO_DECODE_DURATION_S,
                max_decode_bytes=envs.VLLM_MAX_AUDIO_DECODE_BYTES,
                backend=self.audio_backend,
            )
        except (soundfile.SoundFileError, ImportError) as exc:  # the latter of the last decoder that vLLM tries
            raise AudioError("the audio cannot be decoded") from exc
        return samples if samples.ndim == 1 else samples[0], rate

    def load_file(self, filepath: Any) -> tuple[Any, float]:
        self._validate_encoded_size(filepath.stat().st_size)
        return self.load_bytes(filepath.read_bytes())


class ImageReader(ImageMediaIO):
    """Errors: `UnusableImage`."""

    def load_bytes(self, data: bytes) -> MediaWithBytes[Image.Image]:
        return MediaWithBytes(open_image(data), data)


class VideoReader(VideoMediaIO):
    """The frames that the model sees. Errors: `UnusableVideo`, and `UnusableImage` of a film sent as pictures."""

    def load_bytes(self, data: bytes) -> MediaWithBytes[tuple[Any, dict[str, Any]]]:
        frames = np.stack([np.asarray(one) for one in video.sample(data, video.basic, mirrored=False)])
        # One a second, so that the same ones are chosen of them again.
        metadata = {"total_num_frames": len(frames), "fps": 1.0, "frames_indices": list(range(len(frames)))}
        return MediaWithBytes((frames, metadata), data)


@MEDIA_CONNECTOR_REGISTRY.register(CONNECTOR)
class VitaMediaConnector(MediaConnector):
    """vLLM's connector, whose readers are replaced by the ones above."""

    def load_from_url(self, url: str, media_io: MediaIO[Any], **settings: Any) -> Any:
        return super().load_from_url(url, self._ours(media_io), **settings)

    async def load_from_url_async(self, url: str, media_io: MediaIO[Any], **settings: Any) -> Any:
        return await super().load_from_url_async(url, self._ours(media_io), **settings)

    def _ours(self, media_io: MediaIO[Any]) -> MediaIO[Any]:
        if isinstance(media_io, AudioMediaIO):
            return AudioReader(audio_backend=media_io.audio_backend)
        if isinstance(media_io, ImageMediaIO):
            return ImageReader()
        assert isinstance(media_io, VideoMediaIO)
        return VideoReader(ImageReader(), media_io.num_frames, **media_io.kwargs)
