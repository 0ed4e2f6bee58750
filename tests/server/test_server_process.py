"""A real server process: asked to stop, over TLS and IPv6, what it logs; and one that must not start."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.served import ROOT, free_port
from vita_duplex.server.drain import CLOSE_S

ENDLESS = "{text: " + "word " * 3000 + "}"
GRACE_S = 600
"""Longer than anybody waits here: what ends before has not waited for it."""
PATIENCE_S = 60
REPLY = "{text: A scripted answer that takes a few seconds to be spoken to its end.}"


@contextmanager
def serving(
    *flags: str, at: str = "http://127.0.0.1", log: Path | str = os.devnull
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    port = free_port()
    command = [sys.executable, "-m", "vita_duplex.cli.main", "serve", "--config", "configs/scripted.yaml"]
    settings = ["--set", f"server.grace_s={GRACE_S}", "--port", str(port), *flags]
    with (
        open(log, "wb") as stderr,
        subprocess.Popen([*command, *settings], cwd=ROOT, env=os.environ, stderr=stderr) as process,
    ):
        try:
            while process.poll() is None and ready(port, at) != 200:
                time.sleep(0.1)
            yield process, port
        finally:
            process.kill()


def ready(port: int, at: str = "http://127.0.0.1") -> int | None:
    anybody = ssl._create_unverified_context()  # whether it is trusted is tested elsewhere
    try:
        with urllib.request.urlopen(f"{at}:{port}/ready", timeout=5, context=anybody) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        return answer.code
    except OSError:
        return None


async def ask(connection: ClientConnection) -> None:
    """Type a question and wait until the answer can be heard."""
    content = [{"type": "input_text", "text": "what is it?"}]
    item = {"type": "message", "role": "user", "content": content}
    await connection.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await connection.send(json.dumps({"type": "response.create"}))
    await until(connection, "response.output_audio.delta")


async def until(connection: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            event: dict[str, Any] = json.loads(await connection.recv())
            if event["type"] == kind:
                return event


async def closed(connection: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code or 0, connection.close_reason or ""


@pytest.mark.real
async def test_sigterm_lets_turns_finish_and_takes_nobody_in() -> None:
    with serving("--set", f"engine.scripted=[{REPLY}]") as (process, port):
        url = f"ws://127.0.0.1:{port}/v1/realtime?vita_events=true&pauses=true&queue=true"
        async with connect(url) as talks, connect(url) as idle:
            await ask(talks)
            process.send_signal(signal.SIGTERM)
            assert (await until(idle, "vita.draining"))["seconds_left"] <= GRACE_S - CLOSE_S
            assert await closed(idle) == (1012, "server_draining")
            assert await asyncio.to_thread(ready, port) == 503
            async with connect(url) as late:
                assert (await until(late, "error"))["error"]["code"] == "server_draining"
            assert (await until(talks, "response.done"))["response"]["status"] == "completed"
            assert await closed(talks) == (1012, "server_draining")
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0


@pytest.mark.real
async def test_a_turn_that_outlasts_the_grace_time_is_cut_and_the_process_ends() -> None:
    with serving("--set", "server.grace_s=3", "--set", f"engine.scripted=[{ENDLESS}]") as (process, port):
        async with connect(f"ws://127.0.0.1:{port}/v1/realtime") as talks:
            await ask(talks)
            process.send_signal(signal.SIGTERM)
            assert (await closed(talks))[0] == 1012
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0


@pytest.mark.real
async def test_a_second_sigterm_ends_it_now() -> None:
    with serving("--set", f"engine.scripted=[{ENDLESS}]") as (process, port):
        async with connect(f"ws://127.0.0.1:{port}/v1/realtime?vita_events=true&pauses=true&queue=true") as talks:
            await ask(talks)
            process.send_signal(signal.SIGTERM)
            await until(talks, "vita.draining")
            process.send_signal(signal.SIGTERM)
            assert (await closed(talks))[0] == 1012
            assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0


def started(*flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vita_duplex.cli.main", "serve", "--config", "configs/scripted.yaml", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.real
def test_the_server_refuses_to_start_for_others_without_keys_in_one_line() -> None:
    refused = started("--host", "0.0.0.0", "--port", str(free_port()))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "vita-duplex key NAME" in refused.stderr


@pytest.mark.real
async def test_https_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    with serving("--self-signed", "--set", f"engine.cache={tmp_path}", at="https://127.0.0.1") as (_, port):
        trusting = ssl.create_default_context(cafile=str(tmp_path / "tls" / "certificate.pem"))
        async with connect(f"wss://localhost:{port}/v1/realtime", ssl=trusting) as client:
            await client.send(np.zeros(480, np.int16).tobytes())
            await until(client, "session.created")


@pytest.mark.real
async def test_ipv6_is_served() -> None:
    with serving("--host", "::1", at="http://[::1]") as (_, port):
        async with connect(f"ws://[::1]:{port}/v1/realtime") as client:
            await until(client, "session.created")


@pytest.mark.real
async def test_all_it_logs_is_json_and_invalid_utf8_is_no_traceback(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving("--set", "observe.logs=json", log=log) as (process, port):
        async with connect(f"ws://127.0.0.1:{port}/v1/realtime") as client:
            await until(client, "session.created")
            assert client.protocol.extensions == [], "compression, which the client has offered"
            await client.send(b"secret \xff", text=True)
            assert (await closed(client))[0] == 1007
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, PATIENCE_S)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines
    assert "secret" not in log.read_text()
    assert "Traceback" not in log.read_text()
