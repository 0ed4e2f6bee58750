"""The tensors of checkpoints: names and sizes of the release, wrong ones, and the real model without its weights."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from tests.support.tiny_vita import CHECKPOINT, GOLDEN, unfilled_model, weights
from vita_duplex.models.checkpoint import (
    AUDIO,
    PROJECTOR,
    UNUSED,
    VISION,
    Checked,
    CheckpointMismatch,
    check_folder,
    expected_shapes,
)
from vita_duplex.models.configuration import VitaConfig, of_folder

Shapes = dict[str, tuple[int, ...]]

RELEASED = VitaConfig(**json.loads((GOLDEN / "released_config.json").read_text()))
IN_SHARDS: Shapes = {
    name: tuple(shape) for name, shape in json.loads((GOLDEN / "weight_shapes.json").read_text())["tensors"].items()
}


def tiny() -> VitaConfig:
    config = of_folder(CHECKPOINT)
    assert config is not None
    return config


def test_the_tiny_checkpoint_has_what_is_expected_and_the_two_statistics() -> None:
    assert set(IN_SHARDS) - set(expected_shapes(tiny())) == UNUSED
    assert expected_shapes(tiny()) | dict.fromkeys(UNUSED, (80,)) == IN_SHARDS
    assert {name: tuple(tensor.shape) for name, tensor in weights().items()} == IN_SHARDS


def kinds(names: Iterable[str]) -> Counter[str]:
    return Counter(re.sub(r"(layers|experts|encoders)\.\d+\.", r"\1.N.", name) for name in names)


def test_the_release_has_the_same_kinds_of_tensors_and_more_of_them() -> None:
    """Per kind: 32 layers of text instead of 2, 8 experts instead of 4, 24 layers in each encoder instead of 2."""
    small, large = kinds(set(IN_SHARDS) - UNUSED), kinds(expected_shapes(RELEASED))
    assert set(small) == set(large)
    for kind, count in small.items():
        if "experts.N" in kind:
            times = 32
        elif kind.startswith("model.layers.N"):
            times = 16
        else:
            times = 12 if ".N." in kind else 1
        assert large[kind] == times * count, kind


V, H, EXPERT, C, D, F = 51760, 4096, 14336, 1024, 1024, 4096
SOME = {
    "model.embed_tokens.weight": (V, H),
    "lm_head.weight": (V, H),
    "model.norm.weight": (H,),
    "model.layers.31.self_attn.q_proj.weight": (H, H),
    "model.layers.31.self_attn.k_proj.weight": (1024, H),
    "model.layers.0.self_attn.v_proj.weight": (1024, H),
    "model.layers.0.self_attn.o_proj.weight": (H, H),
    "model.layers.9.block_sparse_moe.gate.weight": (8, H),
    "model.layers.9.block_sparse_moe.experts.7.w1.weight": (EXPERT, H),
    "model.layers.9.block_sparse_moe.experts.7.w2.weight": (H, EXPERT),
    "model.layers.9.block_sparse_moe.experts.7.w3.weight": (EXPERT, H),
    "model.layers.9.post_attention_layernorm.weight": (H,),
    f"{VISION}embeddings.class_embedding": (1, 1, C),
    f"{VISION}embeddings.position_embedding": (1, 1025, C),
    f"{VISION}embeddings.patch_embedding.weight": (C, 3, 14, 14),
    f"{VISION}encoder.layers.23.attn.qkv.weight": (3 * C, C),
    f"{VISION}encoder.layers.23.attn.qkv.bias": (3 * C,),
    f"{VISION}encoder.layers.23.mlp.fc1.weight": (4 * C, C),
    f"{VISION}encoder.layers.23.ls2": (C,),
    f"{PROJECTOR}0.weight": (H, 4 * C),
    f"{PROJECTOR}2.bias": (H,),
    f"{AUDIO}encoder.enc.0.core.conv.0.weight": (D, 1, 3, 3),
    f"{AUDIO}encoder.enc.0.core.out.0.weight": (D, 19 * D),
    f"{AUDIO}encoder.enc.1.encoders.23.self_attn.pos_bias_u": (16, 64),
    f"{AUDIO}encoder.enc.1.encoders.23.feed_forward.w_1.weight": (F, D),
    f"{AUDIO}adpter.conv1d2.weight": (2 * D, D, 5),
    f"{AUDIO}adpter.project.weight": (H, 2 * D),
}
"""From the list of the release's tensors."""

MIXTRAL_8X7B = 46_702_792_704
"""Parameters, as published; VITA has a longer vocabulary."""


def test_the_release_has_its_sizes() -> None:
    shapes = expected_shapes(RELEASED)
    assert {name: shapes[name] for name in SOME} == SOME

    def count(*prefixes: str) -> int:
        return sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(prefixes))

    assert count(VISION) == 304_012_288
    assert count(f"{AUDIO}encoder.") == 357_950_464  # the "341M" of the paper, counted in 2^20
    text = sum(map(prod, expected_shapes(RELEASED).values())) - count(VISION, PROJECTOR, AUDIO)
    assert text == MIXTRAL_8X7B + 2 * (51760 - 32000) * 4096
    assert len(shapes) + len(UNUSED) == 1815


@pytest.mark.real
@pytest.mark.vllm
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Qwen2Config, {}),
        (Qwen2Config, {"tie_word_embeddings": True}),
        (LlamaConfig, {}),
        (LlamaConfig, {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
    ],
    ids=["qwen2", "qwen2-tied", "llama", "llama-biases"],
)
def test_other_text_models_have_the_tensors_that_transformers_gives_them(kind: Any, settings: Any) -> None:
    text = kind(
        vocab_size=600,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **settings,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text)
    theirs = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if text.tie_word_embeddings:
        theirs.pop("lm_head.weight")
    config = VitaConfig(text_config=text, image_token_index=500, audio_token_index=501)
    ours = expected_shapes(config)
    assert {name: shape for name, shape in ours.items() if not name.startswith((VISION, PROJECTOR, AUDIO))} == theirs


class Tensors(dict[str, tuple[int, ...]]):
    """Names and shapes of a checkpoint."""

    def load(self, config: VitaConfig, **settings: Any) -> None:
        checked = Checked(config, **settings)
        passed = [name for name, _ in checked((name, torch.empty(shape)) for name, shape in self.items())]
        assert passed == list(self)
        checked.finish()


K_PROJ = "model.layers.0.self_attn.k_proj.weight"
EXPERT_3 = "model.layers.1.block_sparse_moe.experts.3.w2.weight"


@pytest.mark.parametrize(
    "name", [K_PROJ, EXPERT_3, f"{AUDIO}adpter.bn2.bias", f"{PROJECTOR}2.weight", "lm_head.weight"]
)
def test_a_tensor_that_is_missing_is_named(name: str) -> None:
    tensors = Tensors(IN_SHARDS)
    del tensors[name]
    with pytest.raises(CheckpointMismatch, match=rf"lacks {re.escape(name)}; is a shard missing"):
        tensors.load(tiny())


def test_of_many_missing_tensors_five_are_named() -> None:
    with pytest.raises(CheckpointMismatch, match=r"lacks lm_head.weight, .* and 128 more;"):
        Tensors().load(tiny())


@pytest.mark.parametrize(("name", "shape"), [(K_PROJ, (128, 128)), (f"{VISION}embeddings.class_embedding", (1, 32))])
def test_a_tensor_of_another_shape_is_named(name: str, shape: tuple[int, ...]) -> None:
    found = rf"{re.escape(name)} is {re.escape(str(list(shape)))}; config.json makes it"
    with pytest.raises(CheckpointMismatch, match=found):
        Tensors(IN_SHARDS | {name: shape}).load(tiny())


def test_a_tensor_without_a_place_is_named() -> None:
    with pytest.raises(CheckpointMismatch, match=r"has model.audio_encoder.adpter.conv1d1.weight, .* no place"):
        Tensors(IN_SHARDS | {f"{AUDIO}adpter.conv1d1.weight": (3,)}).load(tiny())


def test_the_statistics_may_be_left_out() -> None:
    Tensors(IN_SHARDS).load(tiny())
    Tensors(expected_shapes(tiny())).load(tiny())


def test_a_process_of_expert_parallelism_reads_its_own_experts_only() -> None:
    some = Tensors({name: shape for name, shape in IN_SHARDS.items() if ".experts.2." not in name})
    some.load(tiny(), some_experts=True)
    with pytest.raises(CheckpointMismatch, match=r"experts\.2\.w1"):
        some.load(tiny())


def test_a_tied_text_model_may_have_a_copy_of_its_embeddings() -> None:
    config = tiny()
    config.text_config.tie_word_embeddings = True
    Tensors(IN_SHARDS).load(config)
    Tensors({name: shape for name, shape in IN_SHARDS.items() if name != "lm_head.weight"}).load(config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_a_folder_is_checked_without_loading_it(folder: Path) -> None:
    check_folder(folder)
    shard = folder / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.unlink()
    with pytest.raises(CheckpointMismatch, match=r"lacks the file model-00002-of-00002\.safetensors"):
        check_folder(folder)
    shard.write_bytes(whole[:-1000])
    with pytest.raises(CheckpointMismatch, match=r"model-00002-of-00002\.safetensors is damaged"):
        check_folder(folder)
    for one in folder.glob("model*"):
        one.unlink()
    save_file({name: tensor for name, tensor in weights().items() if name != K_PROJ}, folder / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match=f"lacks {K_PROJ}"):
        check_folder(folder)


def test_a_folder_whose_configuration_cannot_be_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"image_token_index": 512}))
    with pytest.raises(ValueError, match="image_token_index 512 is outside the 512 ids"):
        check_folder(folder)


def test_the_folder_of_another_model_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    check_folder(tmp_path)


@pytest.mark.real
@pytest.mark.vllm
def test_every_tensor_of_the_release_fills_its_part_of_the_real_model(tmp_path: Path) -> None:
    shapes = expected_shapes(RELEASED) | dict.fromkeys(UNUSED, (80,))
    with unfilled_model(tmp_path, json.loads((GOLDEN / "released_config.json").read_text())) as model:
        filled = model.load_weights((name, torch.empty(shape, device="meta")) for name, shape in shapes.items())
        inside = dict(model.named_parameters())
        assert filled == set(inside)
        padding = 2 * 16 * 4096  # of the vocabulary, to a multiple of 64
        assert (
            sum(one.numel() for one in inside.values()) == sum(map(prod, expected_shapes(RELEASED).values())) + padding
        )
        with pytest.raises(CheckpointMismatch, match=r"lacks .*layers\.31\.self_attn\.v_proj"):
            model.load_weights(
                (name, torch.empty(shape, device="meta"))
                for name, shape in shapes.items()
                if name != "model.layers.31.self_attn.v_proj.weight"
            )
