"""What VITA's instance tells vLLM: engine arguments, names of media; no engine runs here."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT
from vita_duplex.engine.instances import vita
from vita_duplex.engine.instances.vita import Names, VitaInstanceConfig, audible, engine_arguments, positions
from vita_duplex.engine.instances.vllm_engine import VllmConfig
from vita_duplex.engine.instances.vllm_engine import engine_arguments as common_arguments
from vita_duplex.settings import load_config


def test_a_medium_keeps_its_name_and_no_other_ever_has_it() -> None:
    names, seen = Names(), set[str]()
    kept = np.zeros(9, np.float32)
    name = names.of(kept)
    for _ in range(100):  # most of these get the address of one that is gone
        seen.add(names.of(np.zeros(9, np.float32)))
    assert len(seen) == 100
    assert name not in seen
    assert names.of(kept) == name
    assert names.of(kept.copy()) != name
    assert Names().of(kept) != name, "nobody can guess it"
    assert len(names._names) == 1, "those that are gone leave nothing behind"


@pytest.mark.parametrize(("n", "length"), [(0, 1360), (1359, 1360), (1360, 1360), (5000, 5000)])
def test_a_short_sound_gets_silence_behind_it(n: int, length: int) -> None:
    samples = np.arange(n, dtype=np.float32)
    made = audible(samples)
    assert (len(made), made.dtype) == (length, np.float32)
    np.testing.assert_array_equal(made, np.pad(samples, (0, length - n)))


def test_each_instance_has_its_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(ROOT / "configs" / "vita-4gpu.yaml", {}).engine
    monkeypatch.setattr(vita, "on_cpu", lambda: False)
    devices = [engine_arguments(config.vita, first_gpu)["device_ids"] for first_gpu in (0, 2)]
    assert devices == [[0, 1], [2, 3]]
    assert config.gpus == 4
    monkeypatch.setattr(vita, "on_cpu", lambda: True)
    assert "device_ids" not in engine_arguments(config.vita, 0)


def test_vllm_is_told_of_tiles_only_what_was_set() -> None:
    assert engine_arguments(VitaInstanceConfig(), 0)["mm_processor_kwargs"] == {}
    live = VitaInstanceConfig(max_dynamic_patch=1)
    assert engine_arguments(live, 0)["mm_processor_kwargs"] == {"max_dynamic_patch": 1}


@pytest.mark.real
@pytest.mark.vllm
def test_vllm_knows_every_argument() -> None:
    from vllm import AsyncEngineArgs

    config = VitaInstanceConfig(model="m")
    told = {*common_arguments(config), *engine_arguments(config, 0), "device_ids"}
    assert told <= {field.name for field in dataclasses.fields(AsyncEngineArgs)}


def test_on_a_cpu_tokens_get_a_fixed_share_of_memory() -> None:
    assert common_arguments(VllmConfig(model="m", kv_cache_mib=64))["kv_cache_memory_bytes"] == 64 * 2**20
    assert common_arguments(VllmConfig(model="m"))["kv_cache_memory_bytes"] == 512 * 2**20


def test_positions_are_read_in_either_layout(tmp_path: Path) -> None:
    assert positions(ROOT / "tests" / "golden" / "tiny_vita") == 4096
    assert positions(tmp_path) == 32_768
    for settings in ({"max_position_embeddings": 99}, {"text_config": {"max_position_embeddings": 99}}):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        assert positions(tmp_path) == 99
    (tmp_path / "config.json").write_text("[]")
    assert positions(tmp_path) == 32_768
