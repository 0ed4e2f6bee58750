"""VITA 1.0 and 1.5 as a model of `transformers`, for training: the plugin's own towers in front of its text model.

Audio tower, projector, features, tiles and prompts are those of the server (`vita_duplex.models`), so that what is
trained is what is served. Nothing of vLLM is imported.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import ModelOutput

from vita_duplex.models.audio_encoder import AudioTower, AudioTowerConfig
from vita_duplex.models.configuration import VitaConfig
from vita_duplex.models.vision import VisionProjector
from vita_duplex.train.vision_tower import VisionTower

IMAGE, AUDIO, IGNORED = -200, -500, -100
"""Ids of the training data, from the original's `constants.py`: a token of an image, a token of audio, no target."""

DUMMY_FRAMES = 400
"""Of the silent clip that stands in where a batch has no audio; the original's length."""


@dataclass
class VitaOutput(ModelOutput):
    """`loss` is a scalar, or None without labels; `logits` are [B, T, vocabulary]."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class VitaForTraining(PreTrainedModel):
    """Logits of a padded batch whose media are already tokens' places: `IMAGE` and `AUDIO` in `input_ids`."""

    config_class = VitaConfig
    base_model_prefix = "language_model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: VitaConfig, **kwargs: Any) -> None:
        super().__init__(config)
        text = config.text_config
        self.vision_tower = VisionTower(config.vision_config)
        self.vision_projector = VisionProjector(config.vision_config.hidden_size, text.hidden_size)
        self.audio_tower = AudioTower(AudioTowerConfig.of_settings(config.audio_config.to_dict(), text.hidden_size))
        self.language_model = AutoModelForCausalLM.from_config(text, **kwargs)
        self._no_split_modules = {*self.language_model._no_split_modules, "AudioTower", "VisionTower"}  # for FSDP
        self.post_init()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """With the names of the parameters: `transformers` splits experts when it saves, and loses them."""
        super().save_pretrained(*args, **{**kwargs, "save_original_format": False})

    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        return self.language_model.get_output_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor | None = None,
        audio_features: Tensor | None = None,
        audio_frames: Tensor | None = None,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> VitaOutput:
        """Run a batch.

        `input_ids`, `attention_mask`, `labels`, `weights`: [B, T]; labels are not shifted, `IGNORED` is no target, and
        a target counts by its weight. `pixel_values`: [tiles, 3, S, S], of all rows in their order. `audio_features`:
        [clips, frames, 80], zero behind the `audio_frames` of each clip.
        """
        embeds = self._embed(input_ids, pixel_values, audio_features, audio_frames)
        balanced = bool(getattr(self.config.text_config, "output_router_logits", False)) and labels is not None
        options = {"output_router_logits": True} if balanced else {}
        out = self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False, **options)
        if labels is None:
            return VitaOutput(logits=out.logits)
        loss = weighted_loss(out.logits, labels, weights)
        if balanced:
            loss = loss + self.config.text_config.router_aux_loss_coef * out.aux_loss
        return VitaOutput(loss=loss, logits=out.logits)

    def _embed(self, ids: Tensor, pixels: Tensor | None, features: Tensor | None, frames: Tensor | None) -> Tensor:
        """Embeddings of text and media, [B, T, hidden].

        While training each batch passes both towers, with something silent or black where it has no media of a kind:
        processes that share the parameters have to run the same modules.
        """
        embeds = self.get_input_embeddings()(ids.clamp(min=0))
        for kind, tokens in ((IMAGE, self._see(pixels, embeds)), (AUDIO, self._hear(features, frames, embeds))):
            if tokens is None:
                continue
            place = ids == kind
            if not place.any():
                embeds = embeds + 0 * tokens.sum()
                continue
            if int(place.sum()) != len(tokens):
                raise ValueError(f"a batch has {int(place.sum())} places for {len(tokens)} tokens of its media")
            embeds = embeds.masked_scatter(place[..., None], tokens.to(embeds.dtype))
        return embeds

    def _see(self, pixels: Tensor | None, like: Tensor) -> Tensor | None:
        if pixels is None:
            if not self.training:
                return None
            size = self.config.vision_config.image_size
            pixels = like.new_zeros(1, 3, size, size)
        return self.vision_projector(self.vision_tower(pixels)).flatten(0, 1)

    def _hear(self, features: Tensor | None, frames: Tensor | None, like: Tensor) -> Tensor | None:
        if features is None or frames is None:
            if not self.training:
                return None
            features, frames = like.new_zeros(1, DUMMY_FRAMES, 80), torch.tensor([DUMMY_FRAMES])
        tokens, counts = self.audio_tower(features, frames.tolist())
        # The original keeps the padding of a batch in its sequences; a clip's tokens here are those it has alone.
        return torch.cat([row[:count] for row, count in zip(tokens, counts, strict=True)])


def weighted_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each target given what stands before it, averaged by the weights of the targets.

    `logits` [B, T, vocabulary]; `labels` and `weights` [B, T], not shifted. A batch without a target has loss 0.
    """
    targets = labels[:, 1:].reshape(-1)
    each = F.cross_entropy(
        logits[:, :-1].reshape(len(targets), -1).float(), targets, ignore_index=IGNORED, reduction="none"
    )
    counts = (targets != IGNORED).float()
    if weights is not None:
        counts = counts * weights[:, 1:].reshape(-1)
    return (each * counts).sum() / counts.sum().clamp(min=1e-6)
