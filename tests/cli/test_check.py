"""`check --model` says what a model is, what it needs and how it is asked, before anything loads."""

import json
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.tiny_text import write
from vita_duplex.cli import check
from vita_duplex.config import Config
from vita_duplex.settings import load_config

TINY = ROOT / "tests" / "golden" / "tiny_vita"


def told(model: str, kind: str = "text") -> dict[str, tuple[bool, str]]:
    config: Config = load_config(None, {}, [f"engine.kind={kind}", f"engine.{kind}.model={model}"])
    return dict(check._model(config))


def test_a_text_model_is_described(tmp_path: Path) -> None:
    folder = write("qwen3", tmp_path / "Tiny", do_sample=True, temperature=0.6, top_k=20, max_new_tokens=99)
    found = told(str(folder))
    assert all(fine for fine, _ in found.values())
    assert found["family"][1] == "Qwen3ForCausalLM (qwen3)"
    assert found["weights"][1].startswith("0.1 million parameters, ")
    assert found["context"][1].startswith("made for 1024 tokens; 512 MiB hold 1048576 of them")
    assert found["tools"][1] == "its template takes tools"
    assert found["thinks"][1].startswith("its template knows thoughts")
    assert found["samples"][1] == "temperature 0.6, top_k 20, max_new_tokens 99"
    assert "<|im_start|>system\\nBe brief.<|im_end|>" in found["asked"][1]


def test_a_base_model_and_one_without_tools_say_so(tmp_path: Path) -> None:
    base = told(str(write("base", tmp_path / "base")))
    assert (base["tools"][1], base["thinks"][1]) == ("its template knows no tools", "no")
    assert "plain dialogue" in base["asked"][1]


def test_vita_is_described_and_other_models_in_its_place_are_named(tmp_path: Path) -> None:
    found = told(str(TINY), "vita")
    assert found["family"] == (True, "VITA: MixtralForConditionalGeneration (mixtral_multimodal)")
    assert "tools" not in found
    other = write("llama3", tmp_path / "other")
    assert "is a llama model, not VITA" in told(str(other), "vita")["model"][1]
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "model_type": "vita-nemo"}))
    fine, message = told(str(other))["model"]
    assert (fine, "is a vita-nemo; of VITA these run here: vita-mixtral" in message) == (False, True)


@pytest.mark.parametrize(
    ("kind", "model", "fine", "message"),
    [
        ("text", "Qwen/Qwen2.5-1.5B-Instruct", True, "from the Hugging Face hub; it is not on this machine yet"),
        ("vita", "VITA-MLLM/VITA", False, "run: hf download VITA-MLLM/VITA"),
        ("text", "./nosuch", False, "there is no folder ./nosuch"),
    ],
)
def test_what_is_not_here_is_told(
    kind: str, model: str, fine: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found, text = told(model, kind)["model"]
    assert (found, message in text) == (fine, True)
