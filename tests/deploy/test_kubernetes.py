"""Every overlay of deploy/, rendered by kubectl and held against the schemas of Kubernetes, KEDA and Prometheus."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT
from vita_duplex.settings import load_config

jsonschema = pytest.importorskip("jsonschema")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="make deploy-test installs it")

OVERLAYS = ["cpu", "gpu-1", "gpu-4", "fleet"]
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests" / "deploy" / "schemas").glob("*.json")}
VERSION = "1.33"
"""The oldest Kubernetes that still gets mends, at the end of 2026."""

Json = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Json]:
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl; make deploy-test installs it")
    done = subprocess.run([kubectl, "kustomize", str(ROOT / "deploy" / overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def containers(overlay: str) -> Iterator[tuple[Json, Json]]:
    """Each workload and its container."""
    for resource in rendered(overlay):
        if resource["kind"] in ("Deployment", "StatefulSet"):
            [container] = resource["spec"]["template"]["spec"]["containers"]
            yield resource, container


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_resource_is_what_its_schema_says(overlay: str) -> None:
    for resource in rendered(overlay):
        if schema := SCHEMAS.get(resource["kind"]):
            jsonschema.validate(resource, schema)
        else:
            kubernetes_validate.validate(resource, VERSION, strict=True)


def test_the_schemas_refuse_what_is_misspelt() -> None:
    for kind in SCHEMAS:
        [resource, *_] = [one for one in rendered("fleet") if one["kind"] == kind]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**resource, "spec": {**resource["spec"], "selektor": {}}}, SCHEMAS[kind])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_are_settings_and_the_configurations_there(overlay: str) -> None:
    for workload, container in containers(overlay):
        variables = {one["name"]: one.get("value", "secret") for one in container["env"]}
        variables.pop("VITA_DUPLEX_ACCESS__KEYS_FILE", None)
        command = container.get("command", [])
        config = ROOT / command[command.index("--config") + 1] if "--config" in command else None
        settings = load_config(config, variables)
        if workload["metadata"]["name"] != "vita-gateway":
            continue
        spec = workload["spec"]["template"]["spec"]
        before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert spec["terminationGracePeriodSeconds"] >= before + settings.server.grace_s + 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_runs_as_root_or_writes_to_its_image(overlay: str) -> None:
    for workload, container in containers(overlay):
        spec = workload["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["enableServiceLinks"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whoever_is_selected_is_there(overlay: str) -> None:
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload, _ in containers(overlay)]
    names = [(workload["kind"], workload["metadata"]["name"]) for workload, _ in containers(overlay)]
    for resource in rendered(overlay):
        spec = resource.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= one.items() for one in labels), resource["metadata"]["name"]
        if target := spec.get("scaleTargetRef"):
            assert (target.get("kind", "Deployment"), target["name"]) in names


def test_what_keda_scales_has_no_number_of_its_own() -> None:
    [gateway] = [workload for workload, _ in containers("fleet") if workload["kind"] == "Deployment"]
    assert "replicas" not in gateway["spec"]
