"""A real server in a process of its own, for the end-to-end tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.paths import GOLDEN, ROOT

READY_S = 400
"""Generous: several times the 90 s it takes on two idle cores, for busy machines."""

TINY_VITA = [
    f"engine.vita.model={GOLDEN / 'tiny_vita'}",
    "engine.vita.tensor_parallel_size=1",
    "engine.vita.dtype=float32",
    "engine.vita.max_tokens=64",
    "engine.vita.kv_cache_mib=64",
    "duplex.first_limit_s=20",
    "duplex.stall_limit_s=20",
    "duplex.verdict_deadline_ms=6000",  # two engines and everything else share two cores here
    "vad.kind=level",
    "vad.echo.guard=false",  # a tone over a hum is no speech to a canceller
    "tts.kind=humming",
]
"""Settings that put two engines of the tiny checkpoint in the place of `configs/vita-4gpu.yaml`'s."""

GONE_S = 120
"""The same for engines that are stopped one after the other."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(config: str | Path, *flags: str) -> Iterator[int]:
    """Serve a configuration, a file or one of ours by name; yields the port once `/ready` says yes.

    Stopping must leave no process behind.
    """
    file = config if isinstance(config, Path) else Path(f"configs/{config}.yaml")
    port = free_port()
    command = [sys.executable, "-m", "vita_duplex.cli.main", "serve", "--config", str(file)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), *flags], cwd=ROOT, stdout=log, stderr=log, env=os.environ
        )
        family: list[psutil.Process] = []
        try:
            _wait_until_ready(process, port)
            family = psutil.Process(process.pid).children(recursive=True)
            yield port
            process.send_signal(signal.SIGTERM)
            assert process.wait(GONE_S) == 0
            _, alive = psutil.wait_procs(family, 10)
            assert alive == [], "processes left behind"
        except BaseException:
            log.seek(0)
            print(log.read()[-5000:])  # pytest shows it with the failure
            raise
        finally:
            for one in family:
                if one.is_running():
                    one.kill()
            process.kill()
            process.wait()
        log.seek(0)
        lines = log.read().splitlines()
        # vLLM tells of an engine that died with one.
        assert [line for line in lines if "Traceback" in line and "async_llm.py" not in line] == []


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended while loading"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
                assert json.load(answer)["ready"] is True
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"not ready within {READY_S} s")


def engines(port: int) -> list[psutil.Process]:
    """The processes of a server's engines, the first one's first."""
    [server] = [one for one in psutil.Process().children() if str(port) in one.cmdline()]
    return sorted((one for one in server.children() if "EngineCore" in one.name()), key=lambda one: one.create_time())


@contextmanager
def going_on(*processes: psutil.Process) -> Iterator[None]:
    """Within, a test may suspend these processes, so that they are not done however fast they are."""
    try:
        yield
    finally:
        for process in processes:
            process.resume()
