"""A node before it serves: what nvidia-smi and a checkpoint say, held against a configuration."""

import json
from pathlib import Path

import pytest

from tests.support.paths import GOLDEN, ROOT
from vita_duplex.cli.check_node import Needs, bytes_per_token, complete, driver, findings, links, memory, read_gpus, shm
from vita_duplex.settings import load_config

H20 = """\
0, NVIDIA H20, 97871, 97400, 570.86.15
1, NVIDIA H20, 97871, 97400, 570.86.15
2, NVIDIA H20, 97871, 20000, 570.86.15
"""
TOPOLOGY = """\
\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity
GPU0\t X \tNV18\tSYS\tSYS\t0-47
GPU1\tNV18\t X \tSYS\tSYS\t0-47
GPU2\tSYS\tSYS\t X \tPIX\t48-95
GPU3\tSYS\tSYS\tPIX\t X \t48-95
"""
MIXTRAL = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8}
VITA = Needs(weights=47e9, per_token=bytes_per_token(MIXTRAL) / 2, share=0.88, longest=8192)


def test_the_arithmetic_is_that_of_the_configuration() -> None:
    assert bytes_per_token(MIXTRAL) == 131_072
    assert bytes_per_token({}) == 0
    fine, text = memory(read_gpus("0, A100, 76294, 76000, 570.1\n")[0], VITA)  # 80 GB
    assert fine
    assert "32 dialogues" in text  # as configs/vita-4gpu.yaml says


def test_a_gpu_that_is_too_small_or_not_free_is_named() -> None:
    small, _, busy = read_gpus(H20.replace("97871", "45000", 1))
    assert memory(small, VITA)[0] is False
    assert "no room" in memory(small, VITA)[1]
    assert memory(busy, VITA)[0] is False
    assert "another process" in memory(busy, VITA)[1]


def test_links_are_those_inside_each_engine() -> None:
    assert links(TOPOLOGY, 2, 1) == (True, "NVLink")
    assert "NV18, PIX, not all NVLink" in links(TOPOLOGY, 2, 2)[1]
    assert "not known" in links("", 2, 1)[1]


@pytest.mark.parametrize(
    ("version", "fine"), [("570.86.15", True), ("470.54", False), ("550.54", True), ("580", True), ("?", True)]
)
def test_old_drivers_are_told(version: str, fine: bool) -> None:
    assert driver(version)[0] is fine


def test_a_containers_own_shm_is_too_small_for_two_gpus() -> None:
    assert shm(64 * 2**20, 2)[0] is False
    assert shm(64 * 2**20, 1)[0] is True
    assert shm(4 * 2**30, 2)[0] is True


def test_half_a_download_is_noticed(tmp_path: Path) -> None:
    assert complete(GOLDEN / "tiny_vita")[0] is True
    assert "no folder" in complete(tmp_path / "none")[1]
    for name in ("config.json", "tokenizer.json", "a.safetensors"):
        (tmp_path / name).write_text("{}")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks b.safetensors" in complete(tmp_path)[1]
    (tmp_path / "b.safetensors").touch()
    assert "lacks b.safetensors" in complete(tmp_path)[1]
    (tmp_path / "b.safetensors").write_text("{}")
    assert complete(tmp_path)[0] is True
    (tmp_path / "tokenizer.json").unlink()
    assert "no tokenizer" in complete(tmp_path)[1]


def test_without_a_driver_a_configuration_for_gpus_fails_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    config = load_config(ROOT / "configs" / "vita-4gpu.yaml", {}, [f"engine.vita.model={GOLDEN / 'tiny_vita'}"])
    assert dict(findings(config))["gpu"][0] is False
    assert findings(load_config(ROOT / "configs" / "cpu.yaml", {})) == [
        ("gpu", (True, "not needed by this configuration"))
    ]
