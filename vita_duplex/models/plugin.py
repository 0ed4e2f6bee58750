"""The entry point that vLLM calls in each of its processes, before it reads a checkpoint."""

ARCHITECTURES = ("MixtralForConditionalGeneration", "VITAMixtralForCausalLM")
"""What the configurations of the demo's and of the released checkpoint call the model."""


def register() -> None:
    """Make VITA known to `transformers` and vLLM. May be called many times.

    The imports are inside, so that a process that never calls this does not pay for them, and the model is
    named and not imported: vLLM does that where it runs one.
    """
    from vllm import ModelRegistry
    from vllm.transformers_utils.chat_templates.registry import (
        get_chat_template_fallback_path,
        register_chat_template_fallback_path,
    )

    from vita_duplex.models import chat_template
    from vita_duplex.models.configuration import ReleasedVitaConfig, VitaConfig

    register_configs()
    for architecture in ARCHITECTURES:
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, "vita_duplex.models.model:VitaForConditionalGeneration")
    for kind in (VitaConfig, ReleasedVitaConfig):
        if get_chat_template_fallback_path(kind.model_type, "") is None:
            register_chat_template_fallback_path(kind.model_type, chat_template.PATH)


def register_configs() -> None:
    """Make VITA's configurations known to `transformers` alone. May be called many times."""
    from transformers import AutoConfig

    from vita_duplex.models.configuration import CONFIGS

    for kind in CONFIGS:
        AutoConfig.register(kind.model_type, kind, exist_ok=True)
