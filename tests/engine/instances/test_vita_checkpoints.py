"""Checkpoints other than the tiny one, through vLLM: other text models, the flat layout, wrong ones, split ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tests.support.tiny_vita import (
    CASES,
    CHECKPOINT,
    SIZES,
    TOLERANCE,
    check,
    engine,
    greedy,
    logits,
    random_weights,
    text_logits,
    weights,
    with_towers,
    written,
)
from vita_duplex.models.checkpoint import CheckpointMismatch

pytestmark = [pytest.mark.real, pytest.mark.vllm]

HEARD_AND_SEEN = [CASES[name] for name in ("text", "image_tiled", "audio", "history_two_audios")]


def settings() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHECKPOINT / "config.json").read_text())
    return found


@pytest.mark.parametrize(
    ("config", "build"), [(Qwen2Config, Qwen2ForCausalLM), (LlamaConfig, LlamaForCausalLM)], ids=["qwen2", "llama"]
)
def test_another_text_model_gives_what_transformers_gives(tmp_path: Path, config: Any, build: Any) -> None:
    """Random weights, so that all that both have in common is the definition of the model."""
    text = random_weights(build(config(**SIZES)))
    described = settings() | {"text_config": text.config.to_dict()}
    with engine(written(tmp_path / "vita", described, with_towers(text.state_dict().items()))) as llm:
        for case in HEARD_AND_SEEN:
            [output] = llm.generate(case.request(), greedy(all_logits=True), use_tqdm=False)
            assert output.prompt_token_ids == case.ids("expanded_ids")
            reference = text_logits(text, case)
            assert float((logits(output, 16) - reference).abs().max()) <= TOLERANCE
            assert output.outputs[0].token_ids[0] == int(reference[-1].argmax())


def test_the_flat_layout_of_the_release_gives_the_same(tmp_path: Path) -> None:
    """It has no sizes of the encoders, which are then the release's; a small one has to give them."""
    nested = settings()
    flat = nested["text_config"] | {
        "architectures": ["VITAMixtralForCausalLM"],
        "model_type": "vita-mixtral",
        "mm_vision_tower": "somewhere/InternViT-300M-448px",
        "mm_audio_encoder": "somewhere/audio-encoder",
        "mm_hidden_size": 128,
        "mm_projector_type": "mlp2x_gelu",
        "image_token_index": 500,
        "audio_token_index": 501,
        "vision_config": nested["vision_config"],
        "audio_config": nested["audio_config"],
    }
    with engine(written(tmp_path / "flat", flat, weights())) as llm:
        for case in HEARD_AND_SEEN:
            [output] = llm.generate(case.request(), greedy(all_logits=True), use_tqdm=False)
            check(case, output, 16)


def test_a_checkpoint_without_the_statistics_gives_the_same(tmp_path: Path) -> None:
    some = {name: tensor for name, tensor in weights().items() if "global_cmvn" not in name}
    with engine(written(tmp_path / "some", settings(), some)) as llm:
        [output] = llm.generate(CASES["audio"].request(), greedy(), use_tqdm=False)
        check(CASES["audio"], output)


def test_a_wrong_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    """One of what `tests/models/test_checkpoint.py` tries without an engine."""
    expert = "model.layers.1.block_sparse_moe.experts.3.w1.weight"
    folder = written(tmp_path / "wrong", settings(), {name: one for name, one in weights().items() if name != expert})
    with pytest.raises(CheckpointMismatch, match=f"lacks {expert}"), engine(folder):
        pass


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINT, tmp_path / "half")
    (tmp_path / "half" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"), engine(tmp_path / "half"):
        pass


@pytest.mark.parametrize("layout", [{"tensor_parallel_size": 2}], ids=["tensor"])
def test_two_processes_give_what_one_gives(layout: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With heads, experts and vocabulary split between them; one core each."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    with engine(**layout, distributed_executor_backend="mp") as llm:
        outputs = llm.generate([case.request() for case in CASES.values()], greedy(all_logits=True), use_tqdm=False)
        for case, output in zip(CASES.values(), outputs, strict=True):
            check(case, output, 16)
