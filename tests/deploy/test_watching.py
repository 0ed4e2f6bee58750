"""Alerts, their pages, and the dashboards: on a real Prometheus that scraped a server that talks."""

import asyncio
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import DATA, ROOT
from tests.support.served import free_port, served
from tests.support.sockets import scripted_server
from tools.make_dashboards import DASHBOARDS, FOLDER, text
from vita_duplex.client.recording import read_recording
from vita_duplex.client.talk import converse

RULES = ROOT / "docker" / "prometheus" / "alerts.yaml"
TALKS_S = 25
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
QUERIES = [
    (name, title, query)
    for name, panels in DASHBOARDS.items()
    for title, _, queries in panels
    for query in queries.values()
]


def test_the_dashboards_are_those_that_the_tool_writes() -> None:
    assert {path.stem: path.read_text() for path in FOLDER.glob("*.json")} == {name: text(name) for name in DASHBOARDS}


async def test_every_metric_that_is_asked_for_exists() -> None:
    there = set(re.findall(r"^# HELP (\w+)", scripted_server().metrics.text().decode(), re.M))
    for query in [query for _, _, query in QUERIES] + [rule["expr"] for rule in ALERTS]:
        for name in re.findall(r"(?:vita_duplex|process)_\w+", query):
            assert name in there or re.sub(r"_(bucket|sum|count)$", "", name) in there, name


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.M)
    assert pages == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_the_alerts_fire_when_they_have_to_and_not_otherwise() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool (Debian's package prometheus)")
    rules = ROOT / "tests" / "deploy" / "alerts.test.yaml"
    tested = {
        alert["alertname"] for test in yaml.safe_load(rules.read_text())["tests"] for alert in test["alert_rule_test"]
    }
    assert tested == {rule["alert"] for rule in ALERTS}
    done = subprocess.run(["promtool", "test", "rules", str(rules)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_no_panel_is_empty_once_a_server_has_talked(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus (Debian's package)")
    question, second = (read_recording(DATA / f"{name}.flac") for name in ("goforward", "something"))
    with served("scripted") as port:
        prometheus = free_port()
        scraped = {"job_name": "vita-duplex", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        (tmp_path / "prometheus.yaml").write_text(
            json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scraped]})
        )
        command = [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
        ]
        with subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{prometheus}"], stderr=subprocess.DEVNULL
        ) as process:
            try:
                until = time.monotonic() + TALKS_S
                while time.monotonic() < until:
                    asyncio.run(converse(f"ws://127.0.0.1:{port}/v1/realtime", question, second, at_s=0.5))
                empty = [
                    (name, title)
                    for name, title, query in QUERIES
                    if "vllm:" not in query and not answered(prometheus, query)
                ]
            finally:
                process.terminate()
    assert empty == []


def answered(port: int, query: str) -> list[Any]:
    """Series with a number, over the half minute before now."""
    query = query.replace("$__rate_interval", "30s")
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return [one for one in found if one["value"][1] != "NaN"]
