"""`vita-duplex serve` before anything is loaded: what it says about its environment and its port."""

import os
import socket
import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.real  # a process of its own
def test_a_kubernetes_service_of_that_name_costs_one_line_in_the_log() -> None:
    service = {"VITA_DUPLEX_PORT": "tcp://10.96.0.1:80", "VITA_DUPLEX_SERVICE_HOST": "10.96.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = ["--config", "configs/scripted.yaml", "--port", str(taken.getsockname()[1])]
        command = [sys.executable, "-m", "vita_duplex", "serve", *flags]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **service}, capture_output=True, text=True)
    assert ended.returncode == 2
    ignored, refused = ended.stderr.splitlines()
    assert "Kubernetes Service called vita-duplex: VITA_DUPLEX_PORT, VITA_DUPLEX_SERVICE_HOST" in ignored
    assert "cannot listen on" in refused
