"""Runs scripts in Node that drive a real browser: the tests of the page, and its screenshots (`make screenshots`)."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

from tests.support.paths import DATA, TESTS

PAGE = TESTS / "page"
PATIENCE_S = 1800
"""Several times what any of them takes on two idle cores."""


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def what_is_missing() -> str | None:
    if shutil.which("node") is None:
        return "needs node 20 or later"
    if chromium() is None:
        return "needs Chromium: apt-get install chromium"
    if not (PAGE / "node_modules" / "playwright-core").is_dir():
        return "needs playwright-core: make page-tools"
    return None


def node(*arguments: str, **environment: str) -> int:
    """Run a script; returns its exit status. Recordings are at hand as WAV, which a fake microphone reads."""
    with tempfile.TemporaryDirectory() as folder:
        for file in DATA.glob("*.flac"):
            samples, rate = soundfile.read(file, dtype="int16")
            soundfile.write(Path(folder) / f"{file.stem}.wav", samples, rate, subtype="PCM_16")
        more = {"PYTHON": sys.executable, "CHROMIUM": str(chromium()), "RECORDINGS": folder, **environment}
        return subprocess.run(["node", *arguments], env={**os.environ, **more}, timeout=PATIENCE_S).returncode


if __name__ == "__main__":
    sys.exit(what_is_missing() or node(str(PAGE / "browser" / "screenshots.mjs"), *sys.argv[1:]))
