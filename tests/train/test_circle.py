"""The circle: clips are mixed, a tiny VITA that does not know a chirp from a tone is trained on them by two processes,
exported, loaded by the vLLM plugin, and over the WebSocket a chirp swaps the roles while a tone lets the reply go on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from tests.support import sounds
from tests.support.overlapping import answers, spoken_s, talk
from tests.support.paths import ROOT, TESTS
from tests.support.served import engines, free_port, going_on, served
from vita_duplex.client.conversation import Conversation

pytestmark = pytest.mark.real

TINY = {"1.0": TESTS / "golden" / "tiny_vita", "1.5": TESTS / "golden15" / "tiny_vita15"}
ANSWER = " ".join(["So it goes."] * 12)
SETTINGS = "max_tokens: 512, kv_cache_mib: 64, dtype: float32, max_model_len: 4096"
DUPLEX = "{verdict_deadline_ms: 20000, first_limit_s: 20, stall_limit_s: 20}"


def vita_duplex(*arguments: object, module: str = "vita_duplex", **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    told, _ = process.communicate()
    assert process.returncode == status, told[-5000:]
    return told


def sharded(recipe: Path) -> subprocess.Popen[str]:
    """Two processes that share the parameters, as the project's own `accelerate` file says."""
    about = yaml.safe_load((ROOT / "configs/train/fsdp2.yaml").read_text())["fsdp_config"]
    variables = {f"FSDP_{key.removeprefix('fsdp_').upper()}": str(value).lower() for key, value in about.items()}
    variables |= {"FSDP_AUTO_WRAP_POLICY": about["fsdp_auto_wrap_policy"], "ACCELERATE_USE_FSDP": "true"}
    variables["FSDP_STATE_DICT_TYPE"] = about["fsdp_state_dict_type"]
    launch = ("--nproc_per_node", 2, "--master_port", free_port(), "-m", "tests.support.sharding_on_cpu")
    return vita_duplex(*launch, "train", "run", recipe, module="torch.distributed.run", **variables)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mixed by the command from chirps and tones of many lengths and pitches; the check part from others."""
    folder = tmp_path_factory.mktemp("data")
    for part, seed, count in (("train", 1, 320), ("check", 2, 80)):
        rng = np.random.default_rng(seed)
        for kind in ("queries", "noise"):
            (folder / part / kind).mkdir(parents=True)
            for number in range(20):
                seconds = float(rng.uniform(0.8, 3.0))
                tone = sounds.tone(float(rng.uniform(400, 900)), seconds)
                sound = sounds.chirp(seconds) if kind == "queries" else tone
                soundfile.write(folder / part / kind / f"{number}.wav", sound, 16_000)
        named = [f"--{kind}={folder / part / kind}" for kind in ("queries", "noise")]
        mixed = ("data", "mix", folder / part / "mixed", *named, f"--count={count}", f"--seed={seed}")
        finish(vita_duplex(*mixed, f"--answer={ANSWER}"))
    packed = (
        folder / "train/mixed/items.jsonl",
        folder / "train/mixed/pairs.jsonl",
    )  # a dialogue has more than one turn
    finish(vita_duplex("data", "pack", *packed, "--model", TINY["1.5"], "--tokens", 420))
    finish(vita_duplex("data", "check", *(folder / part / "mixed/items.jsonl" for part in ("train", "check"))))
    return folder


def recipe(data: Path, folder: Path, version: str, **changes: Any) -> Path:
    fields = {
        "model": str(TINY[version]),
        "out": str(folder / "run"),
        "data": {
            "train": [{"path": str(data / "train/mixed" / name)} for name in ("items.jsonl", "pairs.jsonl")],
            "check": [{"path": str(data / "check/mixed/items.jsonl")}],
        },
        "learning_rates": {"text": 2e-3, "audio_connector": 2e-3, "audio": 1e-3},
        "labels": {"state_token_weight": 20.0},
        "epochs": 3,
        "batch": 8,
        "check_every": 20,
        "bf16": False,
        "workers": 0,
    }
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(fields | changes))
    return path


def measured(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "report.json").read_text())["measured"]
    return found


@pytest.fixture(scope="session", params=["1.5", "1.0"])
def taught(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported checkpoint, after a run of two processes."""
    folder = tmp_path_factory.mktemp("taught")
    finish(sharded(recipe(data, folder, request.param, batch=4)))
    found = measured(folder)
    assert found["eval_auc"] >= 0.99
    assert (folder / "run" / "curves.png").stat().st_size > 10_000
    finish(vita_duplex("train", "export", folder / "run", folder / "out"))
    return folder / "out"


@pytest.fixture(scope="session")
def url(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("serve") / "config.yaml"
    engine = f"{{kind: vita, instances: 2, vita: {{model: {taught}, {SETTINGS}}}}}"
    config.write_text(
        f"engine: {engine}\nduplex: {DUPLEX}\nvad: {{kind: level, echo: {{guard: false}}}}\ntts: {{kind: humming}}\n"
    )
    with served(config) as port:
        yield f"ws://127.0.0.1:{port}/v1/realtime"


def test_a_chirp_swaps_the_roles(url: str) -> None:
    processes = dict(zip(("a", "b"), engines(int(url.split(":")[2].split("/")[0])), strict=True))

    def stop_answering(so_far: Conversation) -> None:
        processes[so_far.roles[-1].generator].suspend()

    chirps = sounds.chirp(1.3), sounds.chirp(2.1)
    with going_on(*processes.values()):
        talked = talk(url, *chirps, lambda so_far: spoken_s(so_far, 1) > 0.5, stop_answering)
    conversation = talked.conversation
    assert [(one.state, one.accepted) for one in conversation.verdicts] == [("<1>", True)] * 2
    first, second = answers(conversation)
    assert first.instance != second.instance
    assert len(conversation.roles) == 2


def test_a_tone_lets_the_reply_go_on(url: str) -> None:
    def enough(so_far: Conversation) -> bool:
        return len(so_far.verdicts) == 2

    conversation = talk(url, sounds.chirp(1.7), sounds.tone(555.0, 1.9), enough).conversation
    assert [(one.state, one.accepted) for one in conversation.verdicts] == [("<1>", True), ("<2>", False)]
    assert len(conversation.roles) == len(conversation.replies) == 1
    assert conversation.stale_samples == 0


def test_adapters_learn_it_too(data: Path, tmp_path: Path) -> None:
    rates = {"text": 3e-3, "audio_connector": 2e-3, "audio": 1e-3}
    finish(vita_duplex("train", "run", recipe(data, tmp_path, "1.5", lora={"r": 8, "alpha": 16}, learning_rates=rates)))
    assert measured(tmp_path)["eval_auc"] >= 0.99
    finish(vita_duplex("train", "export", tmp_path / "run", tmp_path / "out"))


def losses(folder: Path) -> dict[int, float]:
    newest = max((folder / "run").glob("checkpoint-*"), key=lambda one: int(one.name.split("-")[1]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return {one["step"]: one["loss"] for one in history if "loss" in one}


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    changes = {"steps": 20, "check_every": 10, "epochs": 1}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(vita_duplex("train", "run", recipe(data, whole, "1.5", **changes)))
    path = recipe(data, cut, "1.5", **changes)
    running = vita_duplex("train", "run", path)
    while not (cut / "run" / "checkpoint-10" / "trainer_state.json").exists():
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert "--resume" in finish(vita_duplex("train", "run", path), status=2)  # it is not begun anew by accident
    finish(vita_duplex("train", "run", path, "--resume"))
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-4)


def test_the_file_for_zero_3_is_one_that_accelerate_reads() -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    about = load_config_from_file(str(ROOT / "configs/train/zero3.yaml"))
    assert about.distributed_type == DistributedType.DEEPSPEED
    assert about.deepspeed_config["zero_stage"] == 3
