"""VITA for vLLM: two towers in front of a language model that vLLM brings.

The language model is whatever `text_config` names. The vision tower is vLLM's InternViT, the audio tower and what
lies between the towers and the language model are this package's. Towers are not split between tensor-parallel
ranks, except InternViT's attention and MLP, and are never quantised.
Written for vLLM 0.32; source of the architecture: https://github.com/VITA-MLLM/VITA (October 2024).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsMultiModal, SupportsPP, SupportsQuant
from vllm.model_executor.models.intern_vit import InternVisionModel
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from vita_duplex.models.audio_encoder import AudioTower, AudioTowerConfig
from vita_duplex.models.checkpoint import PREFIXES, Checked
from vita_duplex.models.configuration import TEXT_ARCHITECTURES, VitaConfig
from vita_duplex.models.processing import VIDEO_PLACEHOLDER, VitaDummyInputs, VitaProcessingInfo, VitaProcessor
from vita_duplex.models.prompts import wording
from vita_duplex.models.vision import VisionProjector


@MULTIMODAL_REGISTRY.register_processor(VitaProcessor, info=VitaProcessingInfo, dummy_inputs=VitaDummyInputs)
class VitaForConditionalGeneration(nn.Module, SupportsMultiModal, SupportsPP, SupportsLoRA, SupportsQuant):
    """The whole model, tensor- and pipeline-parallel where its language model is."""

    hf_to_vllm_mapper = WeightsMapper(orig_to_new_prefix=PREFIXES)

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """What vLLM writes for a medium where a chat template takes plain text only."""
        style = wording()
        words = {"image": style.image_placeholder, "audio": style.audio_placeholder, "video": VIDEO_PLACEHOLDER}
        if modality not in words:
            raise ValueError(f"VITA takes image, audio and video, not {modality}")
        return words[modality]

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: VitaConfig = vllm_config.model_config.hf_config
        text = config.text_config
        self.config = config
        self.some_experts = vllm_config.parallel_config.enable_expert_parallel
        self.configure_mm_token_handling(text.vocab_size, [config.image_token_index, config.audio_token_index])

        with self._mark_tower_model(vllm_config, {"image", "video"}):
            self.vision_tower = InternVisionModel(config.vision_config, prefix=maybe_prefix(prefix, "vision_tower"))
            self.vision_projector = VisionProjector(config.vision_config.hidden_size, text.hidden_size)
        with self._mark_tower_model(vllm_config, "audio"):
            sizes = AudioTowerConfig.of_settings(config.audio_config.to_dict(), text.hidden_size)
            self.audio_tower = AudioTower(sizes)
        with self._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=text,
                architectures=[TEXT_ARCHITECTURES[text.model_type]],
                prefix=maybe_prefix(prefix, "language_model"),
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    def get_mm_mapping(self) -> MultiModelKeys:
        """Which modules are what, for LoRA."""
        return MultiModelKeys.from_string_field(
            language_model="language_model.",
            connector=["vision_projector.", "audio_tower.connector."],
            tower_model=["vision_tower.", "audio_tower.encoder."],
        )

    def embed_multimodal(self, **kwargs: Any) -> list[Tensor]:
        """Embeddings of the media in a batch, [tokens, hidden] for each, in their order; vLLM sends one modality."""
        if "pixel_values" in kwargs:
            return self._see(kwargs["pixel_values"], kwargs["image_tiles"])
        if "pixel_values_videos" in kwargs:
            return self._see(kwargs["pixel_values_videos"], kwargs["video_frames"])
        if "audio_features" in kwargs:
            return self.audio_tower.encode(list(kwargs["audio_features"]))  # stacked if all are equally long
        return []

    def _see(self, tiles: Tensor | Sequence[Tensor], counts: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Tiles of several pictures, [tiles, 3, S, S], as one picture's tokens each."""
        pixels = tiles if isinstance(tiles, Tensor) else torch.cat(list(tiles))
        tokens = self.vision_projector(self.vision_tower(pixels))
        sizes = [int(count) for count in counts]
        return [picture.flatten(0, 1) for picture in tokens.split(sizes)]

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor | IntermediateTensors:
        """Hidden states of the language model; vLLM has put the media's embeddings into `inputs_embeds`."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Fill the model from a checkpoint of either layout; both have the same names.

        Errors: `CheckpointMismatch`, which names tensors that are missing, unknown or of another shape.
        """
        checked = Checked(self.config, some_experts=self.some_experts)
        loaded: set[str] = AutoWeightsLoader(self).load_weights(checked(weights), mapper=self.hf_to_vllm_mapper)
        checked.finish()
        return loaded
