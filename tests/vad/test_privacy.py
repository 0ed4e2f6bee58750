"""Nothing phones home."""

import os
import subprocess
import sys
from pathlib import Path


def test_loading_the_ears_leaves_no_telemetry_of_onnxruntime_behind(tmp_path: Path) -> None:
    """Its wheel keeps a device id and a queue of reports in the user's cache, unless it is told not to."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    script = "from vita_duplex.vad.silero import Silero; Silero()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert [path for path in tmp_path.rglob("*") if "onnx" in path.name.lower()] == []
