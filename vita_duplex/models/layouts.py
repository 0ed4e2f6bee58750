"""What checkpoints of VITA call themselves: of each generation the released folder and that of the original's demo.

Source: the `config.json` files of https://github.com/VITA-MLLM/VITA (October 2024, March 2025).
"""

from collections.abc import Mapping
from typing import Any

LAYOUTS = {
    "VITAMixtralForCausalLM": "vita-mixtral",
    "MixtralForConditionalGeneration": "mixtral_multimodal",
    "VITAQwen2ForCausalLM": "vita-Qwen2",
    "Qwen2ForConditionalGeneration": "qwen2_multimodal",
}
"""Architecture and `model_type`. The demo's folder of VITA-1.5 names the architecture only."""


def model_type(settings: Mapping[str, Any]) -> str | None:
    """The `model_type` of a `config.json`, said or meant."""
    named = [LAYOUTS[name] for name in settings.get("architectures") or () if name in LAYOUTS]
    said = settings.get("model_type")
    return str(said) if said else next(iter(named), None)


def is_vita(settings: Mapping[str, Any]) -> bool:
    return model_type(settings) in LAYOUTS.values()
