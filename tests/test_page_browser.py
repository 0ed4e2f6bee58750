"""The page in a real browser, against real servers: `tests/page/browser`, driven by playwright-core from npm."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

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


@pytest.mark.real
@pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing()))
@pytest.mark.parametrize("name", sorted(file.name for file in (TESTS / "browser").glob("*.test.mjs")))
def test_the_page_in_a_browser(name: str, recordings: Path) -> None:
    environment = {"PYTHON": sys.executable, "CHROMIUM": str(chromium()), "RECORDINGS": str(recordings)}
    run = subprocess.run(
        ["node", "--test", "--test-reporter=spec", TESTS / "browser" / name],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=PATIENCE_S,
    )
    print(run.stdout[-20000:])
    assert run.returncode == 0, run.stderr
