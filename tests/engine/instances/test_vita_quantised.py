"""Quantised text models and adapters: which parts vLLM may change, and under which names."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.support.tiny_vita import (
    CASES,
    CHECKPOINT,
    SIZES,
    TOLERANCE,
    engine,
    greedy,
    logits,
    random_weights,
    text_logits,
    unfilled_model,
    with_towers,
    written,
)
from vita_duplex.models.checkpoint import AUDIO, PROJECTOR, VISION, Checked, CheckpointMismatch, expected_shapes
from vita_duplex.models.configuration import VitaConfig

SETTINGS: dict[str, Any] = json.loads((CHECKPOINT / "config.json").read_text())
QWEN2 = {"model_type": "qwen2"} | SIZES
TEXTS: dict[str, Any] = {"mixtral": SETTINGS["text_config"], "qwen2": QWEN2}

ATTENTION = [f"model.layers.0.self_attn.{part}_proj" for part in "qkv"]
"""Left as they are, as quantisers name them; in vLLM the three are one module."""
EXPERTS = [
    [f"model.layers.{layer}.block_sparse_moe.experts.{n}.{w}" for n in range(4) for w in ("w1", "w2", "w3")]
    for layer in range(2)
]

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True}


def symmetric(strategy: str, dynamic: bool) -> dict[str, Any]:
    return {"num_bits": 8, "type": "int", "strategy": strategy, "symmetric": True, "dynamic": dynamic}


INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": symmetric("channel", False),
            "input_activations": symmetric("token", True),
        }
    },
}


# What a quantised checkpoint has to have


K_PROJ = "model.layers.0.self_attn.k_proj"
PACKED: dict[str, dict[str, tuple[int, ...]]] = {
    "awq": {"qweight": (128, 8), "qzeros": (4, 8), "scales": (4, 64)},
    "gptq": {"qweight": (16, 64), "qzeros": (4, 8), "scales": (4, 64), "g_idx": (128,)},
    "int8": {"weight": (64, 128), "weight_scale": (64, 1)},
    "packed": {"weight_packed": (64, 16), "weight_scale": (64, 4), "weight_shape": (2,)},
}
PLACES: dict[str, dict[str, Any]] = {
    "model": {"quantization_config": AWQ},
    "model-older": {"compression_config": INT8},
    "text": {"text_config": SETTINGS["text_config"] | {"quantization_config": AWQ}},
    "text-older": {"text_config": SETTINGS["text_config"] | {"compression_config": INT8}},
}


def load(config: VitaConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    checked = Checked(config)
    assert [name for name, _ in checked((name, torch.empty(shape)) for name, shape in shapes.items())] == list(shapes)
    checked.finish()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", PACKED)
def test_a_quantised_text_model_has_tensors_of_its_own_and_the_towers_have_not(kind: str, place: str) -> None:
    config = VitaConfig.from_dict(SETTINGS | PLACES[place])
    shapes = {name: shape for name, shape in expected_shapes(config).items() if not name.startswith(K_PROJ)}
    shapes |= {f"{K_PROJ}.{part}": shape for part, shape in PACKED[kind].items()}
    load(config, shapes)
    norm = f"{AUDIO}adpter.bn2.bias"
    with pytest.raises(CheckpointMismatch, match=f"lacks {re.escape(norm)};"):
        load(config, {name: shape for name, shape in shapes.items() if name != norm})
    with pytest.raises(CheckpointMismatch, match=r"has model\.mm_projector\.0\.qweight, .* no place"):
        load(config, shapes | {f"{PROJECTOR}0.qweight": (1,)})
    fc1 = f"{VISION}encoder.layers.0.mlp.fc1.weight"
    with pytest.raises(CheckpointMismatch, match=rf"{re.escape(fc1)} is \[1, 1\]"):
        load(config, shapes | {fc1: (1, 1)})


def test_a_checkpoint_that_says_nothing_of_quantisation_has_no_packed_tensors() -> None:
    config = VitaConfig.from_dict(SETTINGS)
    with pytest.raises(CheckpointMismatch, match=r"has model\.layers\.0\.self_attn\.k_proj\.qweight, .* no place"):
        load(config, expected_shapes(config) | {f"{K_PROJ}.qweight": (16, 64)})


# Which modules are quantised


def methods(model: Any) -> dict[str, str]:
    """How each module's weights are held."""
    return {
        name: type(module.quant_method).__name__
        for name, module in model.named_modules()
        if hasattr(module, "quant_method")
    }


def check_methods(model: Any, quantised: str, plain: set[str]) -> None:
    """The text model's layers are `quantised` but for those that are `plain`, and nothing else is."""
    found = methods(model)
    text = {name: method for name, method in found.items() if name.startswith("language_model.")}
    assert {name for name in found if name not in text} >= {"vision_tower.encoder.layers.0.mlp.fc1"}
    assert {method for name, method in found.items() if name not in text} == {"UnquantizedLinearMethod"}
    linear = re.compile(r"\.(qkv_proj|o_proj|gate_up_proj|down_proj|routed_experts)$")
    layers = {name.removeprefix("language_model.model."): how for name, how in text.items() if linear.search(name)}
    assert len(layers) in (6, 8)  # of two layers: with experts, without
    assert {name for name, how in layers.items() if how.startswith("Unquantized")} == plain
    assert all(how.startswith(quantised) for name, how in layers.items() if name not in plain)
    towers = (model.vision_tower, model.vision_projector, model.audio_tower)
    assert all(one.dtype == torch.bfloat16 for part in towers for one in part.parameters())


@pytest.mark.real
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["fp8", "fp8_per_tensor"])
def test_a_text_model_is_quantised_while_loading_and_the_towers_are_not(tmp_path: Path, text: str, name: str) -> None:
    with unfilled_model(tmp_path, SETTINGS | {"text_config": TEXTS[text]}, quantization=name) as model:
        check_methods(model, "Fp8PerTensorOnline", plain=set())


FIRST_ATTENTION = "layers.0.self_attn.qkv_proj"
FIRST_EXPERTS = "layers.0.block_sparse_moe.experts.routed_experts"
SECOND_EXPERTS = "layers.1.block_sparse_moe.experts.routed_experts"
QUANTISED = [f"model.layers.1.self_attn.{part}_proj" for part in "qkvo"]
OTHERS = {"layers.0.self_attn.o_proj"} | {
    f"layers.{n}.mlp.{part}_proj" for n in range(2) for part in ("gate_up", "down")
}


@pytest.mark.real
@pytest.mark.parametrize("where", ["model", "text"])
@pytest.mark.parametrize(
    ("text", "quantisation", "listed", "names", "method", "plain"),
    [
        ("qwen2", FP8, ("modules_to_not_convert", "ignored_layers"), ATTENTION, "Fp8Linear", {FIRST_ATTENTION}),
        ("qwen2", INT8, ("ignore", "ignore"), ATTENTION, "CompressedTensors", {FIRST_ATTENTION}),
        ("qwen2", AWQ, ("modules_to_not_convert",) * 2, ATTENTION, "AutoAWQ", {FIRST_ATTENTION}),
        ("qwen2", GPTQ, ("modules_in_block_to_quantize",) * 2, QUANTISED, "AutoGPTQ", {FIRST_ATTENTION} | OTHERS),
        (
            "mixtral",
            FP8,
            ("modules_to_not_convert", "ignored_layers"),
            [*ATTENTION, *EXPERTS[0]],
            "Fp8",
            {FIRST_ATTENTION, FIRST_EXPERTS},
        ),
        (  # no 8-bit experts on a CPU
            "mixtral",
            INT8,
            ("ignore", "ignore"),
            [*ATTENTION, *EXPERTS[0], *EXPERTS[1]],
            "CompressedTensors",
            {FIRST_ATTENTION, FIRST_EXPERTS, SECOND_EXPERTS},
        ),
    ],
    ids=["fp8", "int8", "awq", "gptq", "mixtral-fp8", "mixtral-int8"],
)
def test_a_quantised_checkpoint_says_in_its_own_names_what_is_quantised(
    tmp_path: Path,
    text: str,
    quantisation: dict[str, Any],
    listed: tuple[str, str],
    names: list[str],
    method: str,
    plain: set[str],
    where: str,
) -> None:
    theirs, ours = listed
    own = {"quantization_config": quantisation | {theirs: names}}
    settings = SETTINGS | {"text_config": TEXTS[text] | (own if where == "text" else {})}
    with unfilled_model(tmp_path, settings | (own if where == "model" else {})) as model:
        assert getattr(model.quant_config, ours) == [f"language_model.{name}" for name in names]
        check_methods(model, method, plain)


@pytest.mark.real
def test_the_output_layer_has_its_name_in_lists_of_modules_too() -> None:
    """There a name ends where a tensor's goes on."""
    from vita_duplex.models.model import VitaForConditionalGeneration

    names = VitaForConditionalGeneration.hf_to_vllm_mapper.get_rename_mapper()
    assert names.apply_list(["lm_head"]) == ["language_model.lm_head"]


# Weights


def text_model() -> Any:
    return random_weights(Qwen2ForCausalLM(Qwen2Config(**SIZES)))


def in_int8(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Layers as compressed-tensors stores them, a scale for each row."""
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            scale = tensor.abs().amax(1, keepdim=True) / 127
            yield name, (tensor / scale).round().to(torch.int8)
            yield f"{name}_scale", scale
        else:
            yield name, tensor


@pytest.mark.real
def test_the_weights_of_a_quantised_checkpoint_reach_the_text_model(tmp_path: Path) -> None:
    """Not what comes of them: what the 8-bit kernel gives on a CPU hangs on its instructions."""
    settings = SETTINGS | {"text_config": QWEN2, "quantization_config": INT8 | {"ignore": ["lm_head"]}}
    tensors = with_towers(in_int8(text_model().state_dict()))
    with unfilled_model(tmp_path, settings, device="cpu", dtype="float32") as model:
        unfilled = {name for name, _ in model.named_parameters()} - model.load_weights(iter(tensors.items()))
        assert all(".self_attn.attn." in name for name in unfilled)  # scales of keys and values, which are not stored
        assert torch.equal(model.vision_projector.linear_1.weight, tensors[f"{PROJECTOR}0.weight"].float())
        for layer in range(SIZES["num_hidden_layers"]):
            for parts, packed in ((["q", "k", "v"], "self_attn.qkv"), (["gate", "up"], "mlp.gate_up")):
                module = model.get_submodule(f"language_model.model.layers.{layer}.{packed}_proj")
                names = [f"model.layers.{layer}.{packed.split('.')[0]}.{part}_proj.weight" for part in parts]
                assert torch.equal(module.weight, torch.cat([tensors[name] for name in names]))
                assert torch.equal(module.weight_scale, torch.cat([tensors[f"{name}_scale"] for name in names]))


# Adapters


RANK, ALPHA = 4, 8


def adapter(folder: Path, text: Any) -> Path:
    """An adapter of random weights in the layout of PEFT, for queries, values and the way out of the MLP.

    It is added to `text`, too.
    """
    folder.mkdir()
    targets = ["q_proj", "v_proj", "down_proj"]
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": targets})
    )
    torch.manual_seed(1)
    tensors = {}
    for name, module in text.named_modules():
        if name.endswith(tuple(targets)):
            a = torch.randn(RANK, module.in_features) * 0.1
            b = torch.randn(module.out_features, RANK) * 0.1
            tensors[f"base_model.model.{name}.lora_A.weight"] = a
            tensors[f"base_model.model.{name}.lora_B.weight"] = b
            module.weight.data += ALPHA / RANK * b @ a
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.real
def test_an_adapter_of_the_text_model_changes_the_requests_that_name_it(tmp_path: Path) -> None:
    """To what the text model gives that has the adapter in its weights; sounds and pictures stay what they are."""
    from vllm.lora.request import LoRARequest

    cases = [CASES[name] for name in ("text", "image_audio")]
    plain, changed = text_model(), text_model()
    request = LoRARequest("tuned", 1, str(adapter(tmp_path / "adapter", changed)))
    tensors = with_towers(plain.state_dict().items())
    folder = written(tmp_path / "vita", SETTINGS | {"text_config": QWEN2}, tensors)
    with engine(folder, enable_lora=True, max_lora_rank=8) as llm:
        for case in cases:
            assert float((text_logits(changed, case) - text_logits(plain, case)).abs().max()) > 100 * TOLERANCE
            # one by one: on a CPU vLLM gives what names no adapter the last one, where both are in a step
            for text, adapted in ((plain, None), (changed, request), (plain, None)):
                [output] = llm.generate(case.request(), greedy(all_logits=True), lora_request=adapted, use_tqdm=False)
                assert float((logits(output, 16) - text_logits(text, case)).abs().max()) <= TOLERANCE


@pytest.mark.real
@pytest.mark.parametrize("text", TEXTS)
def test_each_module_is_a_tower_a_connector_or_the_text_model(tmp_path: Path, text: str) -> None:
    with unfilled_model(tmp_path, SETTINGS | {"text_config": TEXTS[text]}) as model:
        parts = model.get_mm_mapping()
        assert parts.language_model == ["language_model."]
        prefixes = [*parts.language_model, *parts.connector, *parts.tower_model]
        for prefix in prefixes:
            model.get_submodule(prefix.removesuffix("."))
        for name, _ in model.named_parameters():
            assert len([prefix for prefix in prefixes if name.startswith(prefix)]) == 1, name
