"""The examples of docs/clients.md, each run as it stands there against a server with scripted parts.

They need the clients, which `make stock` installs beside, in the versions of the lock files next to this file.
"""

import asyncio
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.served import free_port

pytestmark = pytest.mark.real

PAGE = (ROOT / "docs" / "clients.md").read_text("utf-8")
HERE = ROOT / "tests" / "client"
ANSWER = "This is the first scripted answer"
"""Of `configs/scripted.yaml`."""
LIMIT_S = 90


@dataclass(frozen=True)
class Example:
    title: str
    language: str
    code: str


def examples() -> list[Example]:
    found = re.findall(r"^### (.+?)\n(?:(?!^###).)*?^```(python|js)\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [Example(*one) for one in found]


@asynccontextmanager
async def served(folder: Path, *flags: str) -> AsyncIterator[int]:
    port = free_port()
    command = ["-m", "vita_duplex", "serve", "--config", str(ROOT / "configs" / "scripted.yaml"), "--port", str(port)]
    cache = f"engine.cache={folder}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--set",
        cache,
        *flags,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(LIMIT_S):
            while b"100 % ready" not in await process.stderr.readline():
                assert process.returncode is None
        reading = asyncio.create_task(process.stderr.read())  # else it would wait for us
        yield port
    finally:
        process.terminate()
        await process.wait()
    reading.cancel()


def missing(example: Example) -> bool:
    if example.language == "js":
        return shutil.which("node") is None or not (HERE / "node_modules").is_dir()
    modules = re.findall(r"^(?:from|import) (\w+)", example.code, re.MULTILINE)
    return any(importlib.util.find_spec(module) is None for module in modules)


async def output(example: Example, port: int, folder: Path) -> str:
    """What it prints. It lies where its language looks for packages."""
    code = example.code.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    script = (
        HERE if example.language == "js" else folder
    ) / f"example-{port}.{'mjs' if example.language == 'js' else 'py'}"
    script.write_text(code)
    environment = {
        **os.environ,
        "NODE_EXTRA_CA_CERTS": str(folder / "tls" / "certificate.pem"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    program = "node" if example.language == "js" else sys.executable
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            str(script),
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(LIMIT_S):
            told, _ = await process.communicate()
    finally:
        script.unlink()
    assert process.returncode == 0, told.decode()
    return told.decode()


def test_the_page_has_an_example_for_each_client() -> None:
    assert len({(example.title, example.language) for example in examples()}) == 16
    assert PAGE.count("```") == 2 * 16


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example.title} ({example.language})")
async def test_an_example_prints_the_answer(example: Example, tmp_path: Path) -> None:
    if missing(example):
        pytest.skip("make stock installs the clients")
    flags = ["--self-signed"] if "https://" in example.code else []
    async with served(tmp_path, *flags) as port:
        assert ANSWER in await output(example, port, tmp_path)
