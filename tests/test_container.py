"""The container files, followed step by step in an empty folder: no engine for containers builds them here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
            stage = words[2] if instruction == "FROM" else stage
            yield stage, instruction, words


STAGES = list(dict.fromkeys(stage for stage, _, _ in steps()))
VARIABLES = dict(pair.split("=", 1) for stage, kind, words in steps() if kind == "ENV" for pair in words)


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


def test_the_image_has_what_its_command_needs(tmp_path: Path) -> None:
    follow("cpu-build", tmp_path)
    [command] = [json.loads(" ".join(words)) for _, kind, words in steps() if kind == "CMD"]
    there = f"import sys, vita_duplex.cli.main as it; assert it.__file__.startswith({str(tmp_path)!r}); it.main()"
    run = [sys.executable, "-c", there, *command[1:], "--help"]
    environment = os.environ | VARIABLES | {"PYTHONPATH": str(tmp_path)}
    subprocess.run(run, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    config = load_config(tmp_path / command[command.index("--config") + 1], VARIABLES)
    assert config.server.host == "0.0.0.0"


def test_what_is_copied_between_stages_was_made_in_one_and_nothing_runs_as_root() -> None:
    sources = [word.removeprefix("--from=") for _, kind, words in steps() if kind == "COPY" for word in words]
    assert [one for one in sources if one in STAGES] == ["cpu-build", "cpu-build"]
    assert ("cpu", "USER", ["vita"]) in list(steps())


def test_compose_builds_an_existing_target_and_publishes_on_loopback_only() -> None:
    service = COMPOSE["services"]["vita-duplex"]
    assert service["build"]["target"] in STAGES
    assert (ROOT / "docker" / service["build"]["context"]).resolve() == ROOT
    assert service["ports"] == ["127.0.0.1:8000:8000"]


def test_the_container_serves_everybody_only_if_told_so() -> None:
    image = load_config(None, VARIABLES)
    with pytest.raises(ConfigError, match="no API keys are configured"):
        refuse_exposure(image.server.host, image.access, load_access(image.access))
    composed = load_config(None, VARIABLES | COMPOSE["services"]["vita-duplex"]["environment"])
    refuse_exposure(composed.server.host, composed.access, load_access(composed.access))
