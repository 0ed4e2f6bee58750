"""The configuration of VITA for `transformers` and vLLM, of both generations and both layouts of checkpoints.

The demos' layouts are nested; the released ones are flat and say nothing about the encoders, which are then those
of the release. Code that a checkpoint names in `auto_map` is never run and not kept: the classes here take its place.

| | released folder | folder of the original's demo |
|---|---|---|
| VITA 1.0 | `vita-mixtral` | `mixtral_multimodal` |
| VITA-1.5 | `vita-Qwen2` | no `model_type`; architecture `Qwen2ForConditionalGeneration` |

Source of names and values: the `config.json` files of https://github.com/VITA-MLLM/VITA (October 2024, March 2025).
"""

import json
from pathlib import Path
from typing import Any, ClassVar

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from vita_duplex.models.layouts import model_type

TEXT_ARCHITECTURES = {"mixtral": "MixtralForCausalLM", "qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
"""Text models by the `model_type` of their configuration, and what vLLM calls them."""

RELEASED_TEXT = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 51760,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
"""VITA 1.0: Mixtral 8x7B with a longer vocabulary, for Chinese."""

RELEASED_TEXT_15 = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "use_sliding_window": False,
    "sliding_window": None,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "tie_word_embeddings": False,
}
"""VITA-1.5: Qwen2.5-7B."""


class VisionConfig(PreTrainedConfig):
    """InternViT. The defaults are its 300M model, whatever the name of the type says."""

    model_type = "intern_vit_6b"
    base_config_key = "vision_config"

    defaults: ClassVar[dict[str, Any]] = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "image_size": 448,
        "patch_size": 14,
        "num_channels": 3,
        "hidden_act": "gelu",
        "norm_type": "layer_norm",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "qk_normalization": False,
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "drop_path_rate": 0.1,
        "initializer_range": 0.02,
        "initializer_factor": 1.0,
    }

    def __init__(self, **kwargs: Any) -> None:
        _take_settings(self, kwargs)
        super().__init__(**_own_code(kwargs))


class AudioConfig(PreTrainedConfig):
    """The "whale" audio encoder. Its linears have biases although the release says `qkv_bias: false`."""

    model_type = "whale"
    base_config_key = "audio_config"

    defaults: ClassVar[dict[str, Any]] = {
        "input_dim": 80,
        "num_channels": 1,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "hidden_act": "relu",
        "norm_type": "layer_norm",
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 5000,
        "normalize_before": True,
        "concat_after": False,
        "use_relative_pe": True,
        "qkv_bias": False,
        "qk_normalization": False,
    }

    def __init__(self, **kwargs: Any) -> None:
        _take_settings(self, kwargs)
        super().__init__(**_own_code(kwargs))


class VitaConfig(PreTrainedConfig):
    """VITA 1.0 in the nested layout of the original's vLLM demo. The defaults are the release."""

    model_type = "mixtral_multimodal"
    sub_configs: ClassVar[dict[str, type]] = {
        "text_config": AutoConfig,
        "vision_config": VisionConfig,
        "audio_config": AudioConfig,
    }
    defaults: ClassVar[dict[str, Any]] = {
        "image_token_index": 51000,  # stands for an image in prompts; neither placeholder is ever embedded
        "audio_token_index": 51001,
        "prompt_style": "vita-1.0",  # which wording of prompts.json the weights were trained with
        "ignore_index": -100,
        "projector_hidden_act": "gelu",
        "audio_projector_hidden_act": "gelu",
        "audio_projector_kernel_size": 5,
        "audio_downsample_ratio": 0.125,
        "downsample_ratio": 0.5,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "dynamic_image_size": True,
        "use_thumbnail": True,
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
    }
    released_text: ClassVar[dict[str, Any]] = RELEASED_TEXT

    def __init__(
        self, text_config: Any = None, vision_config: Any = None, audio_config: Any = None, **kwargs: Any
    ) -> None:
        self.text_config = _text_config(self.released_text if text_config is None else text_config)
        self.vision_config = _as_config(VisionConfig, vision_config)
        self.audio_config = _as_config(AudioConfig, audio_config)
        _take_settings(self, kwargs)
        kwargs.setdefault("tie_word_embeddings", False)
        kwargs.setdefault("vocab_size", self.text_config.vocab_size)
        super().__init__(**_own_code(kwargs))
        self._check_placeholders()

    def _check_placeholders(self) -> None:
        ids = {"image_token_index": self.image_token_index, "audio_token_index": self.audio_token_index}
        for name, one in ids.items():
            if not 0 <= one < self.text_config.vocab_size:
                raise ValueError(f"{name} {one} is outside the {self.text_config.vocab_size} ids of the text model")
        if self.image_token_index == self.audio_token_index:
            raise ValueError(f"image_token_index and audio_token_index are both {self.image_token_index}")


class ReleasedVitaConfig(VitaConfig):
    """VITA 1.0 in the flat layout of the released folder: the text model's keys at the top, paths for the encoders."""

    model_type = "vita-mixtral"

    def __init__(self, text_config: Any = None, **kwargs: Any) -> None:
        super().__init__(text_config=text_config or _text_settings(kwargs, self.released_text), **kwargs)


class Vita15Config(VitaConfig):
    """VITA-1.5 in the nested layout of the original's demo, which has no `model_type`.

    The original's placeholders, 51000 and 51001, are the words " sequential" and " Idea" here, and it stops when
    somebody uses them. Ours are the last two rows of the padded vocabulary, which no text can become.
    """

    model_type = "qwen2_multimodal"
    released_text = RELEASED_TEXT_15

    def __init__(self, text_config: Any = None, prompt_style: str = "vita-1.5", **kwargs: Any) -> None:
        text = _text_config(self.released_text if text_config is None else text_config)
        kwargs |= {"image_token_index": text.vocab_size - 2, "audio_token_index": text.vocab_size - 1}
        super().__init__(text_config=text, prompt_style=prompt_style, **kwargs)


class ReleasedVita15Config(Vita15Config):
    """VITA-1.5 in the flat layout of the released folder."""

    model_type = "vita-Qwen2"

    def __init__(self, text_config: Any = None, **kwargs: Any) -> None:
        super().__init__(text_config=text_config or _text_settings(kwargs, self.released_text), **kwargs)


RELEASED_KEYS = (
    *({*RELEASED_TEXT, *RELEASED_TEXT_15} - {"model_type", "architectures", "tie_word_embeddings"}),
    "head_dim",
    "hidden_act",
    "rope_parameters",
    "attention_dropout",
    "initializer_range",
    "output_router_logits",
    "router_jitter_noise",
    "use_cache",
)
"""Keys of the flat layout that belong to the text model."""

MODELS = (VitaConfig, ReleasedVitaConfig, Vita15Config, ReleasedVita15Config)
CONFIGS = (VisionConfig, AudioConfig, *MODELS)


def register() -> None:
    """Make the configurations known to `transformers`, before an auto class asks for one. May be called many times."""
    for kind in CONFIGS:
        AutoConfig.register(kind.model_type, kind, exist_ok=True)


def of_folder(folder: Path) -> VitaConfig | None:
    """The configuration of a checkpoint as vLLM reads it; None if it is of another model.

    Errors: `ValueError` for a `config.json` that is no JSON or cannot be; `OSError` where there is none.
    """
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = {one.model_type: one for one in MODELS}.get(model_type(settings) or "")
    return kind.from_dict(settings) if kind else None


def _take_settings(config: Any, settings: dict[str, Any]) -> None:
    """Give a configuration its own settings; what is left are those of every configuration."""
    for name, default in config.defaults.items():
        setattr(config, name, settings.pop(name, default))


def _text_settings(settings: dict[str, Any], released: dict[str, Any]) -> dict[str, Any]:
    """The text model's part of a flat configuration, which loses it."""
    return released | {key: settings.pop(key) for key in RELEASED_KEYS if key in settings}


def _own_code(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without the names of remote code."""
    return {key: value for key, value in settings.items() if key != "auto_map"}


def _as_config(kind: type, given: Any) -> Any:
    if isinstance(given, PreTrainedConfig):
        return given
    settings = dict(given or {})
    settings.pop("model_type", None)
    return kind(**settings)


def _text_config(given: Any) -> Any:
    """The text model's own configuration class.

    Errors: `ValueError` when the model is not one that VITA runs on.
    """
    if isinstance(given, PreTrainedConfig):
        return given
    settings = _own_code(dict(given))
    name = settings.pop("model_type", "mixtral")
    if name not in TEXT_ARCHITECTURES:
        raise ValueError(f"text_config has model_type {name!r}; known are {', '.join(TEXT_ARCHITECTURES)}")
    return CONFIG_MAPPING[name](**settings)
