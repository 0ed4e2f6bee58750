"""The configuration of VITA: both layouts, other text models, and names of code that is not there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, MixtralConfig, Qwen2Config

from tests.support.paths import GOLDEN
from vita_duplex.models.configuration import AudioConfig, ReleasedVitaConfig, VisionConfig, VitaConfig, register

RELEASED = json.loads((GOLDEN / "released_config.json").read_text())


@pytest.fixture(autouse=True)
def registered() -> None:
    register()
    register()  # vLLM calls it in every process, and sometimes twice


def written(folder: Path, settings: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_the_tiny_checkpoint_is_read_without_remote_code() -> None:
    config = AutoConfig.from_pretrained(GOLDEN / "tiny_vita")
    assert type(config) is VitaConfig
    kinds = [type(part) for part in (config.text_config, config.vision_config, config.audio_config)]
    assert kinds == [MixtralConfig, VisionConfig, AudioConfig]
    assert (config.image_token_index, config.audio_token_index, config.prompt_style) == (500, 501, "vita-1.0")
    assert config.get_text_config() is config.text_config
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    assert config.architectures == ["MixtralForConditionalGeneration"]


def test_every_value_of_the_release_is_kept_and_is_our_default(tmp_path: Path) -> None:
    config, default = AutoConfig.from_pretrained(written(tmp_path, RELEASED)), VitaConfig()
    for part in ("vision_config", "audio_config"):
        given = {key: value for key, value in RELEASED[part].items() if key not in SKIPPED}
        ours = getattr(config, part)
        assert {key: getattr(ours, key) for key in given} == given
        assert {key: getattr(getattr(default, part), key, value) for key, value in given.items()} == given
    text = {key: value for key, value in RELEASED["text_config"].items() if key not in {*SKIPPED, "rope_theta"}}
    assert {key: getattr(config.text_config, key) for key in text} == text
    assert default.text_config.rope_parameters == config.text_config.rope_parameters
    for key in ("vocab_size", "hidden_size", "num_local_experts", "num_key_value_heads", "sliding_window"):
        assert getattr(default.text_config, key) == RELEASED["text_config"][key]
    top = {key: value for key, value in RELEASED.items() if key not in SKIPPED and not key.endswith("_config")}
    assert {key: getattr(config, key) for key in top} == top
    assert config.audio_projector_kernel_size == 5


SKIPPED = {"auto_map", "architectures", "_name_or_path", "torch_dtype", "transformers_version", "use_cache"}
"""Not settings of the model, or for `transformers` to read."""


def test_names_of_remote_code_are_not_kept() -> None:
    config = AutoConfig.from_pretrained(GOLDEN / "tiny_vita")
    assert "auto_map" not in json.dumps(config.to_dict())


def test_a_saved_configuration_reads_the_same(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(GOLDEN / "tiny_vita")
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.to_dict() | {"_name_or_path": ""} == config.to_dict() | {"_name_or_path": ""}


@pytest.mark.parametrize(("name", "kind"), [("qwen2", Qwen2Config), ("llama", LlamaConfig)])
def test_the_text_model_may_be_another(tmp_path: Path, name: str, kind: type) -> None:
    text = {"model_type": name, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 60000}
    config = AutoConfig.from_pretrained(written(tmp_path, RELEASED | {"text_config": text}))
    assert type(config.text_config) is kind
    assert config.get_text_config().hidden_size == 64


def test_the_flat_layout_of_the_release_is_read(tmp_path: Path) -> None:
    flat = {
        **{key: value for key, value in RELEASED["text_config"].items() if key != "model_type"},
        "architectures": ["VITAMixtralForCausalLM"],
        "model_type": "vita-mixtral",
        "num_hidden_layers": 3,
        "mm_vision_tower": "somewhere/InternViT-300M-448px",
        "mm_audio_encoder": "somewhere/audio-encoder",
        "mm_hidden_size": 4096,
        "mm_projector_type": "mlp2x_gelu",
    }
    config = AutoConfig.from_pretrained(written(tmp_path, flat))
    assert type(config) is ReleasedVitaConfig
    assert type(config.text_config) is MixtralConfig
    assert config.text_config.num_hidden_layers == 3
    assert config.text_config.rope_parameters["rope_theta"] == 1e6
    assert config.vision_config.hidden_size == config.audio_config.hidden_size == 1024
    assert (config.image_token_index, config.vocab_size) == (51000, 51760)
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).text_config.num_hidden_layers == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text_config": {"model_type": "whisper"}}, "model_type 'whisper'; known are mixtral, qwen2, llama"),
        ({"image_token_index": 51760}, "image_token_index 51760 is outside the 51760 ids"),
        ({"audio_token_index": 51000}, "image_token_index and audio_token_index are both 51000"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        VitaConfig(**change)


def test_the_tokenizer_of_the_checkpoint_loads_by_itself() -> None:
    assert AutoTokenizer.from_pretrained(GOLDEN / "tiny_vita").convert_tokens_to_ids(["<1>", "<2>"]) == [3, 4]


@pytest.mark.real
@pytest.mark.vllm
def test_importing_the_plugin_loads_nothing_and_registering_loads_no_model() -> None:
    script = """
import sys, vita_duplex.models.plugin as plugin
assert not {"transformers", "torch", "vllm"} & set(sys.modules)
plugin.register()
plugin.register()
assert not {"vita_duplex.models.model", "vllm.model_executor.models.intern_vit"} & set(sys.modules)
from vllm import ModelRegistry
assert {"MixtralForConditionalGeneration", "VITAMixtralForCausalLM"} <= set(ModelRegistry.get_supported_archs())
"""
    subprocess.run([sys.executable, "-c", script], check=True)
