"""The entry point that vLLM calls in each of its processes, before it reads a checkpoint."""


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
    from vllm.transformers_utils.config import _ARCHITECTURE_TO_MODEL_TYPE

    from vita_duplex.models import chat_template, configuration
    from vita_duplex.models.configuration import ARCHITECTURES, MODELS

    configuration.register()
    for architecture, kind in ARCHITECTURES.items():
        _ARCHITECTURE_TO_MODEL_TYPE[architecture] = kind.model_type  # for a config.json without a model_type
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, "vita_duplex.models.model:VitaForConditionalGeneration")
    for kind in MODELS:
        if get_chat_template_fallback_path(kind.model_type, "") is None:
            register_chat_template_fallback_path(kind.model_type, chat_template.PATH)
