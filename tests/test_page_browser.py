"""The page in a real browser, against real servers: `tests/page/browser`, driven by playwright-core from npm."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from test_vita_server import TINY

TESTS = Path(__file__).parent / "page"
DATA = Path(__file__).parent / "data"
PATIENCE_S = 900
"""Several times what it takes on two idle cores."""


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def what_is_missing() -> str | None:
    if shutil.which("node") is None:
        return "needs node 20 or later"
    if chromium() is None:
        return "needs Chromium: apt-get install chromium"
    if not (TESTS / "node_modules" / "playwright-core").is_dir():
        return "needs playwright-core: make page-tools"
    return None


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The human recordings as WAV, which the browser's fake microphone reads."""
    folder = tmp_path_factory.mktemp("recordings")
    for file in DATA.glob("*.flac"):
        samples, rate = soundfile.read(file, dtype="int16")
        soundfile.write(folder / f"{file.stem}.wav", samples, rate, subtype="PCM_16")
    return folder


pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing())),
]


def run_in_browser(name: str, recordings: Path, **more: str) -> None:
    environment = {"PYTHON": sys.executable, "CHROMIUM": str(chromium()), "RECORDINGS": str(recordings), **more}
    run = subprocess.run(
        ["node", "--test", "--test-reporter=spec", TESTS / "browser" / name],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=PATIENCE_S,
    )
    print(run.stdout[-20000:])
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", sorted(file.name for file in (TESTS / "browser").glob("*.test.mjs")))
def test_the_page_in_a_browser(name: str, recordings: Path) -> None:
    run_in_browser(name, recordings)


def test_the_ability_page_with_the_tiny_vita(recordings: Path) -> None:
    flags = [flag for setting in TINY for flag in ("--set", setting)]
    run_in_browser("ability.test.mjs", recordings, ABILITY_SERVER=json.dumps(["configs/vita-4gpu.yaml", *flags]))
