"""Nothing phones home. What a whole conversation sends is watched in `test_spoken_conversation.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.leaving import nothing_leaves_the_machine


def test_loading_the_ears_leaves_no_telemetry_of_onnxruntime_behind(tmp_path: Path) -> None:
    """Its wheel keeps a device id and a queue of reports in the user's cache, unless it is told not to."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    script = "from vita_duplex.vad.silero import Silero; Silero()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert [path for path in tmp_path.rglob("*") if "onnx" in path.name.lower()] == []


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('192.0.2.1', 443))",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'a report', ('192.0.2.1', 53))",
        "socket.getaddrinfo('telemetry.example', 443)",
    ],
)
def test_what_would_leave_the_machine_is_refused_and_noted(attempt: str) -> None:
    def leave() -> None:
        with nothing_leaves_the_machine():
            child = subprocess.run([sys.executable, "-c", f"import socket; {attempt}"], capture_output=True, text=True)
            assert "is not to be left" in child.stderr

    with pytest.raises(AssertionError, match=r"socket\.\w+ (192\.0\.2\.1|telemetry\.example)"):
        leave()


def test_what_stays_inside_is_let_through() -> None:
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    with nothing_leaves_the_machine():
        subprocess.run([sys.executable, "-c", script], check=True)
