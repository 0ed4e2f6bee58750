"""The page: its own tests in JavaScript, and what a strict content security policy asks of it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TESTS = Path(__file__).parent
STATIC = ROOT / "vita_duplex" / "server" / "static"


def test_the_scripts_pass_their_own_tests() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.fail("needs node") if os.environ.get("CI") else pytest.skip("needs node 20 or later")
    run = subprocess.run([node, "--test", *sorted(TESTS.glob("*.test.mjs"))], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


PAGES = sorted(STATIC.glob("*.html"))


def test_every_file_the_pages_name_is_there() -> None:
    named = [name for page in PAGES for name in re.findall(r'(?:src|href)="static/([^"]+)"', page.read_text())]
    for script in STATIC.glob("*.js"):
        named += re.findall(r'(?:from |new URL\()"(?:\./)?([\w.]+\.js)"', script.read_text())
    assert len(named) > 8
    assert [name for name in named if not (STATIC / name).is_file()] == []


def test_every_word_the_pages_say_is_known() -> None:
    words = (STATIC / "words.en.js").read_text()
    said = [key for page in PAGES for key in re.findall(r'data-say(?:-\w+)?="([^"]+)"', page.read_text())]
    for script in STATIC.glob("*.js"):
        said += re.findall(r'\bsay\("([^"]+)"', script.read_text())
    assert len(said) > 80
    assert sorted({key for key in said if f'"{key}":' not in words}) == []


def test_the_pages_need_nothing_inline_and_nothing_from_elsewhere() -> None:
    for page in PAGES:
        text = page.read_text()
        assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text) == [], page.name
        assert "unsafe" not in text, page.name
        assert "default-src 'none'" in text, page.name
    for file in STATIC.iterdir():
        fetched = re.findall(r"""(?:src=|href=|url\(|import |from )["']?(?:https?:)?//""", file.read_text())
        assert fetched == [], file.name
