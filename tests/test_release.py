"""What is released: a wheel that serves in an empty folder, from nothing but itself and its dependencies."""

import asyncio
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.paths import DATA, ROOT
from tests.support.served import _wait_until_ready, free_port
from vita_duplex.client.recording import read_recording
from vita_duplex.client.talk import converse


@pytest.mark.real
def test_the_wheel_serves_in_an_empty_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet"]
    source, dist, site, empty = (tmp_path / name for name in ("source", "dist", "site", "empty"))
    empty.mkdir()
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in tracked.rstrip("\0").split("\0"):
        if name.startswith("vita_duplex/") or "/" not in name:  # of a clean clone, and without its tests
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist), str(source)]
    subprocess.run(wheel, check=True)
    [made] = dist.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(made)], check=True)
    port = free_port()
    scripted = ["--set", "engine.kind=scripted", "--set", "vad.kind=level", "--set", "tts.kind=humming"]
    start = f"import vita_duplex.cli.main as it; assert it.__file__.startswith({str(site)!r}); it.main()"
    command = [sys.executable, "-c", start, "serve", "--port", str(port), *scripted]
    process = subprocess.Popen(command, cwd=empty, env=os.environ | {"PYTHONPATH": str(site)})
    try:
        _wait_until_ready(process, port)
        for path in ("/", "/ability", "/static/talk.js", "/openapi.json"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                assert len(answer.read()) > 1000
        question = read_recording(DATA / "goforward.flac")
        conversation = asyncio.run(converse(f"ws://127.0.0.1:{port}/v1/realtime", question))
        assert [reply.status for reply in conversation.replies.values()] == ["completed"]
    finally:
        process.terminate()
        process.wait(30)
    assert list(empty.iterdir()) == [], "nothing is written beside it"
