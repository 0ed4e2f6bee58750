"""The entry point that vLLM calls in each of its processes, before it reads a checkpoint."""


def register() -> None:
    """Make VITA known to `transformers` and vLLM. May be called many times.

    The imports are inside, so that a process that never calls this does not pay for them, and the model is
    named and not imported: vLLM does that where it runs one.
    """
    from vllm import ModelRegistry
    from vllm.transformers_utils.config import _ARCHITECTURE_TO_MODEL_TYPE

    from vita_duplex.models import configuration
    from vita_duplex.models.layouts import LAYOUTS

    configuration.register()
    for architecture, model_type in LAYOUTS.items():
        _ARCHITECTURE_TO_MODEL_TYPE[architecture] = model_type  # for a config.json without one
        if architecture not in ModelRegistry.get_supported_archs():
            ModelRegistry.register_model(architecture, "vita_duplex.models.model:VitaForConditionalGeneration")
