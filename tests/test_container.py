"""The container files name steps, files and settings that exist. No engine builds them here; `make` tests the steps."""

import re

import pytest
import yaml

from tests.support.paths import ROOT
from vita_duplex.config import ConfigError
from vita_duplex.server.access.auth import load_access, refuse_exposure
from vita_duplex.settings import load_config

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
STAGES = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("target", re.findall(r"\bmake ([a-z]+)", DOCKERFILE))
def test_every_step_is_one_of_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE))
def test_everything_copied_is_there_and_not_ignored(line: str) -> None:
    *sources, _ = line.split()
    ignored = (ROOT / ".dockerignore").read_text().split()
    for source in sources:
        assert (ROOT / source).exists()
        assert source.split("/")[0] not in ignored


def test_what_is_copied_between_stages_was_made_in_one() -> None:
    assert set(re.findall(r"COPY --from=(\S+)", DOCKERFILE)) <= set(STAGES)


def test_the_server_in_the_container_is_started_with_known_settings() -> None:
    (command,) = re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    arguments = yaml.safe_load(command)
    (environment,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    variables = dict(pair.split("=", 1) for pair in environment.split())
    config = load_config(ROOT / arguments[arguments.index("--config") + 1], variables)
    assert config.server.host == "0.0.0.0"
    assert "USER vita" in DOCKERFILE, "not as root"


def test_compose_builds_an_existing_target_and_publishes_on_loopback_only() -> None:
    service = COMPOSE["services"]["vita-duplex"]
    assert service["build"]["target"] in STAGES
    assert (ROOT / "docker" / service["build"]["context"]).resolve() == ROOT
    assert service["ports"] == ["127.0.0.1:8000:8000"]


def test_the_container_serves_everybody_only_if_told_so() -> None:
    (environment,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    variables = dict(pair.split("=", 1) for pair in environment.split())
    image = load_config(None, variables)
    with pytest.raises(ConfigError, match="no API keys are configured"):
        refuse_exposure(image.server.host, image.access, load_access(image.access))
    composed = load_config(None, variables | COMPOSE["services"]["vita-duplex"]["environment"])
    refuse_exposure(composed.server.host, composed.access, load_access(composed.access))
