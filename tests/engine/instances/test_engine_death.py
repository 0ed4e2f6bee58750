"""The process of an engine is killed while it answers: the other engine goes on, the dead one comes back.

A real server with two real engines; the tiny VITA checkpoint has random weights, so its answers are babble without end.
"""

import asyncio
import base64
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.judging_by_ear import judging_by_ear
from tests.support.paths import GOLDEN
from tests.support.served import engines, served

pytestmark = pytest.mark.real

SETTINGS = [
    "engine.vita.tensor_parallel_size=1",
    "engine.vita.dtype=float32",
    "engine.vita.max_model_len=4096",
    "engine.vita.max_tokens=2000",
    "engine.vita.kv_cache_mib=64",
    # Two engines and everything else share two cores here: nothing but the crash may move an answer.
    "duplex.verdict_deadline_ms=10000",
    "duplex.first_limit_s=20",
    "duplex.stall_limit_s=20",
    "vad.kind=level",
    "vad.echo.guard=false",  # a tone over a hum is no speech to a canceller
    "tts.kind=humming",
]
QUESTION = "a b c d"
"""Answered with babble up to the last token that an engine may write."""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    # A checkpoint whose answers have no end, wherever they are gone on with.
    model = judging_by_ear(GOLDEN / "tiny_vita", tmp_path_factory.mktemp("by-ear") / "vita", states=(3, 4, 5), end=2)
    settings = [f"engine.vita.model={model}", *SETTINGS]
    with served("vita-4gpu", *(part for setting in settings for part in ("--set", setting))) as port:
        yield port


class Client:
    """One conversation, kept as the events that came and when."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.events: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())
        self._changed = asyncio.Condition()

    async def _read(self) -> None:
        async for message in self._socket:
            self.events.append({**json.loads(message), "at": time.monotonic()})
            async with self._changed:
                self._changed.notify_all()

    async def send(self, **event: Any) -> None:
        await self._socket.send(json.dumps(event))

    async def ask(self) -> None:
        content = [{"type": "input_text", "text": QUESTION}]
        item = {"type": "message", "role": "user", "content": content}
        await self.send(type="conversation.item.create", item=item)
        await self.send(type="response.create")

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    async def until(self, kind: str, number: int = 1, limit_s: float = 60) -> dict[str, Any]:
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: len(self.all(kind)) >= number)
        return self.all(kind)[number - 1]

    def seconds(self) -> float:
        """Of sound received."""
        return sum(len(base64.b64decode(event["delta"])) for event in self.all("response.output_audio.delta")) / 48_000

    async def leave(self) -> None:
        await self._socket.close()
        await self._reading


async def enter(port: int) -> Client:
    client = Client(await connect(f"ws://127.0.0.1:{port}/v1/realtime?vita_events=true&pauses=true&queue=true"))
    await client.until("session.created")
    await client.until("vita.roles")
    return client


def ready(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def test_the_answer_goes_on_at_the_other_engine_and_the_dead_one_comes_back(port: int) -> None:
    async def script() -> None:
        speaking, listening = await enter(port), await enter(port)
        assert [client.all("vita.roles")[0]["generator"] for client in (speaking, listening)] == ["a", "b"]
        killed = engines(port)[0]
        await speaking.ask()
        await speaking.until("response.created")
        while not speaking.all("response.output_audio.delta"):  # in small steps: it must not be done before it is heard
            killed.resume()
            await asyncio.sleep(0.02)
            killed.suspend()
            await asyncio.sleep(0.5)
        killed.kill()
        at = time.monotonic()
        moved = await speaking.until("vita.roles", 2)
        assert (moved["generator"], moved["monitor"]) == ("b", "b")
        health = await asyncio.to_thread(ready, port)
        assert (health["ready"], health["parts"]["instance a"], health["parts"]["instance b"]) == (True, False, True)
        before = speaking.seconds()
        async with asyncio.timeout(60):
            while speaking.seconds() <= before + 3:  # noqa: ASYNC110 - it goes on in the same reply
                await asyncio.sleep(0.1)
        pieces = [event["at"] for event in speaking.all("response.output_audio.delta")]
        print(f"roles told {moved['at'] - at:.2f} s after the kill, longest pause {max(np.diff(pieces)):.2f} s")
        back = await speaking.until("vita.roles", 3, limit_s=300)
        print(f"it was back {back['at'] - at:.1f} s after the kill")
        assert (back["generator"], back["monitor"]) == ("a", "b")
        assert [one.pid != killed.pid for one in engines(port)] == [True, True]
        assert (await asyncio.to_thread(ready, port))["parts"]["instance a"]

        await speaking.send(type="response.cancel")
        done = await speaking.until("response.done")
        assert len(speaking.all("response.created")) == 1
        assert done["response"]["status"] == "cancelled"
        record = (await speaking.until("vita.timeline"))["record"]
        assert (record["instance"], [name for _, name in record["moves"]]) == ("a", ["b"])
        moved_s = record["moves"][0][0]
        assert record["first_audio_sent"] < moved_s < record["finished"]
        assert record["generated"] is None or record["generated"] > moved_s + 0.1, "the other one had something to add"
        assert speaking.all("error") == []

        for client in (speaking, listening):
            number = len(client.all("response.created")) + 1
            await client.ask()
            await client.until("response.created", number)
            await client.until("response.output_audio.delta", len(client.all("response.output_audio.delta")) + 5)
            await client.send(type="response.cancel")
            await client.until("response.done", number)
            assert (await client.until("vita.timeline", number))["record"]["moves"] == []
        again, other = (client.all("vita.timeline")[-1]["record"]["instance"] for client in (speaking, listening))
        assert (again, other) == ("a", "b")
        for client in (speaking, listening):
            await client.leave()

    asyncio.run(script())
