"""The container files, followed step by step in an empty folder; tests/test_image.py builds and runs them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT
from vita_duplex.config import ConfigError
from vita_duplex.server.access.auth import load_access, refuse_exposure
from vita_duplex.settings import load_config

COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def steps() -> Iterator[tuple[str, str, list[str]]]:
    """Stage, instruction and words of each step of the Dockerfile."""
    text = (ROOT / "docker/Dockerfile").read_text().replace("\\\n", " ")
    stage = ""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, *words = line.split()
            stage = words[2] if instruction == "FROM" and len(words) > 2 else stage
            yield stage, instruction, words


STAGES = list(dict.fromkeys(stage for stage, _, _ in steps()))
TARGETS = ["cpu", "gateway", "gpu"]
BASES = {words[2]: words[0] for _, kind, words in steps() if kind == "FROM"}


def variables(target: str) -> dict[str, str]:
    """What ENV says in a target and in what it is made from."""
    below = variables(BASES[target]) if BASES.get(target) in STAGES else {}
    return below | dict(
        pair.split("=", 1) for stage, kind, words in steps() if (stage, kind) == (target, "ENV") for pair in words
    )


def commands(target: str) -> list[str]:
    [command] = [json.loads(" ".join(words)) for stage, kind, words in steps() if (stage, kind) == (target, "CMD")]
    return command


def follow(stage: str, folder: Path) -> None:
    """Copy what a stage copies, and see at each of its make targets whether all is there that it needs."""
    ignored = [name.removeprefix("**/") for name in (ROOT / ".dockerignore").read_text().split()]
    for _, instruction, words in (step for step in steps() if step[0] == stage):
        if instruction == "COPY":
            *sources, target = words
            for source in sources:
                assert source.split("/")[0] not in ignored
                inside = folder / (Path(source).name if target == "./" else target)
                inside.parent.mkdir(exist_ok=True)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, inside, **({"dirs_exist_ok": True} if copy is shutil.copytree else {}))
        elif instruction == "RUN" and "make" in words and "apt-get" not in words:
            target = words[words.index("make") + 1]
            subprocess.run(["make", "--dry-run", target], cwd=folder, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("target", ["cpu", "gateway"])
def test_the_image_has_what_its_command_needs(target: str, tmp_path: Path) -> None:
    follow("build", tmp_path)
    if target == "cpu":
        follow("cpu-packages", tmp_path)
    follow(f"{target}-build", tmp_path)
    command = commands(target)
    there = f"import sys, vita_duplex.cli.main as it; assert it.__file__.startswith({str(tmp_path)!r}); it.main()"
    run = [sys.executable, "-c", there, *command[1:], "--help"]
    environment = os.environ | variables(target) | {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run(run, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    config = load_config(tmp_path / command[command.index("--config") + 1], variables(target))
    assert config.server.host == "0.0.0.0"


def test_what_is_copied_between_stages_was_made_in_one_and_nothing_runs_as_root() -> None:
    sources = [word.removeprefix("--from=") for _, kind, words in steps() if kind == "COPY" for word in words]
    assert {one for one in sources if one in STAGES} == {"cpu-packages", "cpu-build", "gateway-build"}
    assert all((target, "USER", ["10001:0"]) in list(steps()) for target in TARGETS)


PROFILES = ["cpu", "vita15-1gpu", "vita-4gpu"]


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_understands_every_profile(profile: str) -> None:
    for compose in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(compose[0]) and subprocess.run([*compose, "version"], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("neither docker compose nor docker-compose is here")
    command = [
        *compose,
        "--file",
        "docker/compose.yaml",
        "--profile",
        profile,
        "--profile",
        "watch",
        "--profile",
        "tls",
    ]
    checked = subprocess.run([*command, "config"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def services(profile: str) -> dict[str, Any]:
    return {name: one for name, one in COMPOSE["services"].items() if profile in one["profiles"]}


def test_two_engines_share_no_gpu_and_the_gateway_asks_both() -> None:
    gpus = {}
    for name, service in services("vita-4gpu").items():
        [*devices] = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        gpus[name] = [gpu for device in devices for gpu in device["device_ids"]]
    assert gpus == {"engine-a": ["0", "1"], "engine-b": ["2", "3"], "gateway": []}
    asked = load_config(ROOT / "configs/vita-remote.yaml", settings_of("gateway")).engine.remote.urls
    assert asked == ("http://engine-a:8000", "http://engine-b:8000")


def settings_of(service: str) -> dict[str, str]:
    """Without those that name a file, which is not here."""
    values = COMPOSE["services"][service].get("environment", {})
    return {name: value for name, value in values.items() if not name.endswith("_FILE")}


def test_every_variable_is_explained() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker/compose.yaml").read_text()))
    explained = set(re.findall(r"^#(\w+)=", (ROOT / "docker/.env.example").read_text(), re.M))
    assert used == explained


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_builds_existing_targets_and_publishes_on_loopback_only(profile: str) -> None:
    for service in services(profile).values():
        assert service["build"]["target"] in STAGES
        assert (ROOT / "docker" / service["build"]["context"]).resolve() == ROOT
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["read_only"] is True


def test_the_container_serves_everybody_only_if_told_so() -> None:
    image = load_config(None, variables("cpu"))
    with pytest.raises(ConfigError, match="no API keys are configured"):
        refuse_exposure(image.server.host, image.access, load_access(image.access))
    composed = load_config(None, variables("cpu") | settings_of("cpu"))
    refuse_exposure(composed.server.host, composed.access, load_access(composed.access))
