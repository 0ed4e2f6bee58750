"""The entry point that vLLM calls in each of its processes, before it reads a checkpoint."""


def register() -> None:
    """Make VITA known to `transformers`. May be called many times.

    The import is inside, so that a process that never calls this does not pay for `transformers`.
    """
    from transformers import AutoConfig

    from vita_duplex.models.configuration import CONFIGS

    for kind in CONFIGS:
        AutoConfig.register(kind.model_type, kind, exist_ok=True)
