"""What vLLM asks of a multimodal model before the model runs: media become tensors, placeholders become tokens.

No processor of `transformers` is involved: features, tiles and frames are made by this package. A prompt that comes
as text is tokenised by vLLM in one go; `<image>`, `<audio>` and `<video>` are added to its tokenizer, which then
tokenises what stands between them text by text, as the original does.
Written for vLLM 0.32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from vllm.config.multimodal import MultiModalDummyOptions
from vllm.inputs import MultiModalDataDict
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.media import MediaWithBytes
from vllm.multimodal.parse import ModalityDataItems, MultiModalDataItems, MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
)
from vllm.multimodal.processing.processor import MultiModalProcessingResult, PlaceholderFeaturesInfo

from vita_duplex.models import video
from vita_duplex.models.audio_features import MAX_FRAMES, SHIFT, AudioFeatures, token_count
from vita_duplex.models.audio_resample import RATE
from vita_duplex.models.configuration import VitaConfig
from vita_duplex.models.media import use_own_readers
from vita_duplex.models.prompts import Wording, template_file, wording
from vita_duplex.models.tiling import Tiling, UnusableImage, check_size

VIDEO_PLACEHOLDER = "<video>"
"""In the text of a request; its frames are pictures to the model."""

PROCESSOR_SETTINGS = {"images_kwargs": {"max_dynamic_patch"}, "audio_kwargs": {"dither"}}
"""What `--mm-processor-kwargs` or a request's `mm_processor_kwargs` may set."""


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Ids that stand for one medium each in a prompt that is not expanded yet; no text becomes one of them."""

    image: int
    audio: int
    video: int

    @classmethod
    def added_to(cls, tokenizer: Any, style: Wording) -> "Placeholders":
        """Add the three words to a tokenizer; a tokenizer that has them keeps its ids."""
        words = [style.image_placeholder, style.audio_placeholder, VIDEO_PLACEHOLDER]
        tokenizer.add_special_tokens({"additional_special_tokens": words}, replace_extra_special_tokens=False)
        return cls(*tokenizer.convert_tokens_to_ids(words))


class VitaProcessingInfo(BaseProcessingInfo):
    """Sizes and limits, from the checkpoint's configuration and what the user set over it."""

    def get_hf_config(self) -> VitaConfig:
        config: VitaConfig = self.ctx.get_hf_config(VitaConfig)
        return config

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None, "audio": None, "video": None}

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        return PROCESSOR_SETTINGS

    def get_data_parser(self) -> MultiModalDataParser:
        return VitaDataParser(expected_hidden_size=self._get_expected_hidden_size())

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        most = {
            "image": self.tiling().most_tokens,
            "video": video.MOST * self.frame_tiling().tokens_per_tile,
            "audio": token_count(MAX_FRAMES),
        }
        return {modality: most[modality] for modality in mm_counts}

    def tiling(self, overrides: Mapping[str, Any] | None = None) -> Tiling:
        config = self.get_hf_config()
        settings = self._settings("images_kwargs", overrides)
        return Tiling(
            max_tiles=settings.get("max_dynamic_patch", config.max_dynamic_patch),
            min_tiles=config.min_dynamic_patch,
            tile=config.vision_config.image_size,
            patch=config.vision_config.patch_size,
            thumbnail=config.use_thumbnail,
        )

    def frame_tiling(self) -> Tiling:
        """One tile per frame of a film, as in training: with twelve, one film of 16 frames would fill the context."""
        vision = self.get_hf_config().vision_config
        return Tiling(max_tiles=1, tile=vision.image_size, patch=vision.patch_size)

    def audio_features(self, overrides: Mapping[str, Any] | None = None) -> AudioFeatures:
        return AudioFeatures(dither=self._settings("audio_kwargs", overrides).get("dither", 0.0))

    def _settings(self, scope: str, overrides: Mapping[str, Any] | None) -> Mapping[str, Any]:
        merged = self._merge_and_resolve_mm_processor_kwargs(overrides or {})
        scoped: Mapping[str, Any] = merged.get(scope, {})
        return scoped


class VitaDataParser(MultiModalDataParser):
    """Sound at any rate, channel 0, as at 16 kHz; films as the few frames that the model sees.

    Errors: `AudioError`, `EmptyImage`, `ImageTooLarge`, `UnusableVideo`.
    """

    def _get_audio_with_sr(self, audio: Any) -> tuple[Any, float | None]:
        samples, rate = super()._get_audio_with_sr(audio)
        return AudioFeatures.samples(samples, RATE if rate is None else round(rate)), None

    def _parse_image_data(self, data: Any) -> ModalityDataItems[Any, Any] | None:
        """vLLM next makes a hash of every pixel."""
        items = super()._parse_image_data(data)
        for item in items or ():
            if isinstance(picture := getattr(item, "media", item), Image.Image):
                check_size(*picture.size)
        return items

    def _get_video_with_metadata(self, clip: Any) -> tuple[Any, dict[str, Any] | None]:
        frames, metadata = super()._get_video_with_metadata(clip)
        if isinstance(clip, MediaWithBytes):  # vLLM has asked this method for what is inside
            return frames, metadata
        return (few(frames) if metadata is None else chosen_frames(frames, metadata)), metadata


def chosen_frames(frames: Any, metadata: Mapping[str, Any]) -> Any:
    """Of the frames that vLLM's loader decoded, those nearest to what the model was trained on: one a second.

    Errors: `UnusableVideo` when there are none.
    """
    if not len(frames):  # vLLM's loader fails on the last frame of some films, and tells so only in its log
        raise video.UnusableVideo("the video has no frames that can be decoded")
    total = int(metadata.get("total_num_frames") or len(frames))
    decoded = np.asarray(metadata.get("frames_indices") or range(len(frames)))
    wanted = video.basic(total, float(metadata.get("fps") or 0))
    return frames[[int(np.abs(decoded - index).argmin()) for index in wanted]]


def few(frames: Any) -> Any:
    """Of frames that nobody said anything about, as many as a film may have.

    Errors: `UnusableVideo` when there are none.
    """
    return frames[video.spread(range(len(frames)), min(len(frames), video.MOST))]


class VitaDummyInputs(BaseDummyInputsBuilder[VitaProcessingInfo]):
    """The largest media, for vLLM's measurement of memory at the start."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        style = wording(self.info.get_hf_config().prompt_style)
        words = {"image": style.image_placeholder, "audio": style.audio_placeholder, "video": VIDEO_PLACEHOLDER}
        return "".join(words[modality] * count for modality, count in mm_counts.items())

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: MultiModalDummyOptions
    ) -> MultiModalDataDict:
        tiling = self.info.tiling()
        return {
            "image": self._get_dummy_images(
                width=tiling.tile * tiling.max_tiles, height=tiling.tile, num_images=mm_counts.get("image", 0)
            ),
            "audio": self._get_dummy_audios(length=MAX_FRAMES * SHIFT, num_audios=mm_counts.get("audio", 0)),
            "video": self._get_dummy_videos(
                width=tiling.tile, height=tiling.tile, num_frames=video.MOST, num_videos=mm_counts.get("video", 0)
            ),
        }


class WrongPlaceholders(ValueError):
    """A prompt that has not one placeholder for each medium."""

    def __init__(self, modality: str, placeholders: int, media: int) -> None:
        super().__init__(f"{modality}: the prompt has {placeholders} placeholders, the request {media} media")
        self.modality = modality
        self.placeholders = placeholders
        self.media = media


class VitaProcessor(BaseMultiModalProcessor[VitaProcessingInfo]):
    """Media to tensors and prompts to their full length.

    Errors, all `ValueError`: `AudioTooShort`, `AudioTooLong`, `EmptyImage`, `ImageTooLarge`, `UnusableVideo`,
    `WrongPlaceholders` …
    vLLM answers the request with the message and goes on serving.
    """

    def __init__(self, info: VitaProcessingInfo, dummy_inputs: BaseDummyInputsBuilder[VitaProcessingInfo]) -> None:
        super().__init__(info, dummy_inputs)
        config = info.get_hf_config()
        tokenizer = info.get_tokenizer()
        self.placeholders = Placeholders.added_to(tokenizer, wording(config.prompt_style))
        # A checkpoint's own template is that of its text model; `--chat-template` still goes before ours.
        tokenizer.chat_template = template_file(config.prompt_style).read_text(encoding="utf-8")
        use_own_readers()
        self._given_ids = {
            config.image_token_index: self.placeholders.image,
            config.audio_token_index: self.placeholders.audio,
        }

    def _call_hf_processor(self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, Any]) -> BatchFeature:
        outputs: dict[str, Any] = {}
        if images := hf_data.get("images"):
            tiles = [self.info.tiling(hf_kwargs).pixels(as_picture(image)) for image in images]
            outputs["pixel_values"] = torch.from_numpy(np.concatenate(tiles))
            outputs["image_tiles"] = torch.tensor([len(one) for one in tiles])
        if clips := hf_data.get("videos"):
            tiling = self.info.frame_tiling()
            frames = [np.concatenate([tiling.pixels(as_picture(frame)) for frame in clip]) for clip in clips]
            outputs["pixel_values_videos"] = torch.from_numpy(np.concatenate(frames))
            outputs["video_frames"] = torch.tensor([len(one) for one in frames])
        if clips := hf_data.get("audio"):
            features = self.info.audio_features(hf_kwargs)
            outputs["audio_features"] = [torch.from_numpy(features.extract(clip)) for clip in clips]
            outputs["audio_frames"] = torch.tensor([len(one) for one in outputs["audio_features"]])
        return BatchFeature(self.info.ctx._postprocess_output(outputs))

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        none = torch.zeros(0, dtype=torch.long)
        images, clips = hf_inputs.get("image_tiles", none), hf_inputs.get("video_frames", none)
        return {
            "pixel_values": MultiModalFieldConfig.flat_from_sizes("image", images),
            "image_tiles": MultiModalFieldConfig.batched("image", keep_on_cpu=True),
            "pixel_values_videos": MultiModalFieldConfig.flat_from_sizes("video", clips),
            "video_frames": MultiModalFieldConfig.batched("video", keep_on_cpu=True),
            "audio_features": MultiModalFieldConfig.batched("audio"),
            "audio_frames": MultiModalFieldConfig.batched("audio", keep_on_cpu=True),
        }

    def _postprocess_prompt(self, prompt: list[int]) -> list[int]:
        """A prompt that came as ids has the configuration's placeholders, one from text the added ones."""
        own = {self.placeholders.image, self.placeholders.audio, self.placeholders.video}
        if own & set(prompt):
            return prompt
        return [self._given_ids.get(one, one) for one in prompt]

    def _maybe_apply_prompt_updates(
        self, mm_items: MultiModalDataItems, mm_res: MultiModalProcessingResult
    ) -> tuple[list[int], Mapping[str, list[PlaceholderFeaturesInfo]]]:
        """vLLM would leave placeholders without a medium standing, and fail an assertion for the reverse."""
        media = mm_items.get_all_counts()
        for modality in ("image", "audio", "video"):
            found = mm_res.prompt_ids.count(getattr(self.placeholders, modality))
            if found != media.get(modality, 0):
                raise WrongPlaceholders(modality, found, media.get(modality, 0))
        expanded: tuple[list[int], Mapping[str, list[PlaceholderFeaturesInfo]]]
        expanded = super()._maybe_apply_prompt_updates(mm_items, mm_res)
        return expanded

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, Any],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        config = self.info.get_hf_config()
        per_tile = self.info.tiling().tokens_per_tile

        def count(modality: str, field: str, item: int) -> int:
            return int(out_mm_kwargs[modality][item][field].data)

        return [
            PromptReplacement(
                modality="image",
                target=[self.placeholders.image],
                replacement=lambda item: [config.image_token_index] * (per_tile * count("image", "image_tiles", item)),
            ),
            PromptReplacement(
                modality="video",
                target=[self.placeholders.video],
                replacement=lambda item: [config.image_token_index] * (per_tile * count("video", "video_frames", item)),
            ),
            PromptReplacement(
                modality="audio",
                target=[self.placeholders.audio],
                replacement=lambda item: [config.audio_token_index] * token_count(count("audio", "audio_frames", item)),
            ),
        ]


def as_picture(pixels: Any) -> Image.Image:
    """A picture, or an array of one, [H, W, 3] in grey levels.

    Errors: `UnusableImage`.
    """
    if isinstance(pixels, Image.Image):
        return pixels
    levels = np.asarray(pixels)
    if levels.ndim != 3 or levels.shape[2] != 3 or levels.dtype != np.uint8:
        given = f"{levels.dtype} of {list(levels.shape)}"
        raise UnusableImage(f"a picture as an array must be uint8 of [height, width, 3], not {given}")
    check_size(levels.shape[1], levels.shape[0])
    return Image.fromarray(levels)
