"""Every name of vLLM that the package uses beyond its public ones: an upgrade that moves one fails here, by name."""

import ast
from importlib import import_module
from importlib.util import find_spec

import pytest

from tests.support.paths import ROOT

PUBLIC = {"AsyncEngineArgs", "ModelRegistry", "SamplingParams"}
"""Of `vllm` itself; users are promised these."""
PRIVATE = {
    "vllm": {"envs"},
    "vllm.config": {"VllmConfig"},
    "vllm.config.multimodal": {"MultiModalDummyOptions"},
    "vllm.entrypoints.openai.chat_completion.protocol": {"ChatCompletionRequest"},
    "vllm.entrypoints.serve.utils.api_utils": {"get_max_tokens"},
    "vllm.exceptions": {"VLLMClientError"},
    "vllm.inputs": {"MultiModalDataDict", "tokens_input"},
    "vllm.model_executor.models.interfaces": {"SupportsLoRA", "SupportsMultiModal", "SupportsPP", "SupportsQuant"},
    "vllm.model_executor.models.intern_vit": {"InternVisionModel"},
    "vllm.model_executor.models.module_mapping": {"MultiModelKeys"},
    "vllm.model_executor.models.utils": {
        "AutoWeightsLoader",
        "WeightsMapper",
        "init_vllm_registered_model",
        "maybe_prefix",
    },
    "vllm.multimodal": {"MULTIMODAL_REGISTRY"},
    "vllm.multimodal.inputs": {"MultiModalFieldConfig", "MultiModalKwargsItems"},
    "vllm.multimodal.media": {"MEDIA_CONNECTOR_REGISTRY", "MediaConnector", "MediaIO", "MediaWithBytes"},
    "vllm.multimodal.media.audio": {"AudioMediaIO", "load_audio"},
    "vllm.multimodal.media.image": {"ImageMediaIO"},
    "vllm.multimodal.media.video": {"VideoMediaIO"},
    "vllm.multimodal.parse": {"ModalityDataItems", "MultiModalDataItems", "MultiModalDataParser"},
    "vllm.multimodal.processing": {
        "BaseDummyInputsBuilder",
        "BaseMultiModalProcessor",
        "BaseProcessingInfo",
        "PromptReplacement",
        "PromptUpdate",
    },
    "vllm.multimodal.processing.processor": {"MultiModalProcessingResult", "PlaceholderFeaturesInfo"},
    "vllm.renderers.online_renderer": {"OnlineRenderer"},
    "vllm.sampling_params": {"RequestOutputKind", "StructuredOutputsParams"},
    "vllm.sequence": {"IntermediateTensors"},
    "vllm.transformers_utils.config": {"_ARCHITECTURE_TO_MODEL_TYPE"},
    "vllm.v1.engine.async_llm": {"AsyncLLM"},
    "vllm.v1.engine.exceptions": {"EngineDeadError", "EngineGenerateError"},
}
"""By module."""
METHODS = {
    "vllm.v1.engine.async_llm:AsyncLLM": {"errored", "from_engine_args", "generate", "get_tokenizer", "shutdown"},
    "vllm.renderers.online_renderer:OnlineRenderer": {"preprocess_chat"},
    "vllm.renderers:BaseRenderer": {"render_cmpl_async"},
    "vllm.entrypoints.openai.chat_completion.protocol:ChatCompletionRequest": {"to_sampling_params"},
    "vllm.config:ModelConfig": {"get_diff_sampling_param"},
}
"""What engines call of vLLM's objects, by class."""
REQUEST_FIELDS = {"logprob_token_ids", "logprobs", "max_tokens", "output_kind", "stop", "temperature"}
"""Of `SamplingParams`."""


def imported() -> dict[str, set[str]]:
    """The names that the package imports from vLLM, by module."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "vita_duplex").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vllm":
                module = node.module or ""
                found.setdefault(module, set()).update({one.name for one in node.names} - PUBLIC)
            elif isinstance(node, ast.Import):
                for module in (one.name for one in node.names if one.name.startswith("vllm.")):
                    parent, _, name = module.rpartition(".")
                    found.setdefault(parent, set()).add(name)
    return found


def test_every_name_that_is_imported_from_vllm_is_listed() -> None:
    listed = {module: set(names) for module, names in PRIVATE.items()}
    listed["vllm.renderers"] = {"online_renderer"}  # imported beforehand, for the second it takes
    assert imported() == listed


@pytest.mark.real  # for the time it takes to import vLLM
def test_every_name_is_where_the_package_looks_for_it() -> None:
    missing = []
    for module, names in {**PRIVATE, "vllm": PUBLIC | PRIVATE["vllm"]}.items():
        there = find_spec(module) is not None
        missing += [f"{module}.{name}" for name in names if not (there and hasattr(import_module(module), name))]
    for place, names in METHODS.items():
        module, _, name = place.partition(":")
        owner = getattr(import_module(module), name, None)
        missing += [f"{place}.{one}" for one in names if not hasattr(owner, one)]
    fields = import_module("vllm").SamplingParams.__annotations__
    missing += [f"SamplingParams.{name}" for name in REQUEST_FIELDS - set(fields)]
    assert missing == []
