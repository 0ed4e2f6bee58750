"""Clients behind bad networks: they lose nothing, and nobody else notices. Real sockets on virtual time."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import chain
from statistics import quantiles
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.fault_proxy import Link, proxied
from tests.support.serving import serving
from tests.support.sockets import Json, scripted_server
from tests.support.virtual_time import run
from vita_duplex.client.conversation import Conversation
from vita_duplex.client.recording import Recording
from vita_duplex.client.talk import converse
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.realtime.resume import Missed

pytestmark = pytest.mark.real

SEND_BUFFER, FULL_S = 65_536, 6
"""Bytes the kernel takes for a client; after so many seconds a slow reader's are full, and its events wait in ours."""
KERNEL_S = 0.0005
LONG = ScriptedReply(text=" ".join(f"word{n}" for n in range(15)) + ".", token_s=0.01)
ENDLESS = ScriptedReply(text=" ".join(f"word{n}" for n in range(1000)) + ".", token_s=0.001)
SAID = Recording("question.wav", (10_000 * np.sin(np.arange(16_000) / 10)).astype(np.int16))
CONTENT = [{"type": "input_text", "text": "what is it?"}]
QUESTION = {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": CONTENT}}


async def opened(port: int, query: str = "") -> ClientConnection:
    return await connect(
        f"ws://127.0.0.1:{port}/v1/realtime?{query}", max_size=None, max_queue=None, ping_interval=None
    )


async def ask(client: ClientConnection, **response: Any) -> None:
    for event in (QUESTION, {"type": "response.create", "response": response}):
        await client.send(json.dumps(event))


async def until(client: ClientConnection, kind: str, seen: list[Json] | None = None) -> Json:
    async with asyncio.timeout(600):
        while True:
            event: Json = json.loads(await client.recv())
            if seen is not None:
                seen.append(event)
            if event["type"] == kind:
                return event


def samples(events: list[Json]) -> bytes:
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
    return b"".join(map(base64.b64decode, deltas))


async def answer(port: int, during: Callable[[], Any] = lambda: None) -> list[Json]:
    """The events of one answer. `during` is done when its first audio is there."""
    async with await opened(port) as client:
        await ask(client)
        seen: list[Json] = []
        await until(client, "response.output_audio.delta", seen)
        during()
        await until(client, "response.done", seen)
        return seen


async def latencies(port: int, count: int) -> tuple[list[float], list[float]]:
    """Seconds from each question to its first audio, and between the pieces of audio."""
    clock = asyncio.get_running_loop().time
    first, between = list[float](), list[float]()
    async with await opened(port) as client:
        for _ in range(count):
            last, times = clock(), first
            await ask(client, max_output_tokens=6)
            while (event := json.loads(await client.recv()))["type"] != "response.done":
                if event["type"] == "response.output_audio.delta":
                    times.append(clock() - last)
                    last, times = clock(), between
    return first, between


@pytest.mark.parametrize(
    "link",
    [{"jitter_s": 0.3}, {"stalls": 0.02}, {"jitter_s": 0.3, "stalls": 0.02}, {"bytes_per_s": 30_000}],
    ids=["jitter", "stalls", "both", "half the bytes a second it needs"],
)
def test_a_bad_link_loses_nothing(link: dict[str, float]) -> None:
    async def script() -> None:
        async with serving(scripted_server(LONG)) as port, proxied(port, Link(**link)) as bad:
            good, late = await answer(port), await answer(bad.port)
            assert samples(late) == samples(good)
            assert [event["event_id"] for event in late] == [f"event_{n}" for n in range(1, len(late) + 1)]
            assert late[-1]["response"]["status"] == "completed"

    run(script(), patience_s=KERNEL_S)


def test_a_link_that_was_silent_for_ten_seconds_loses_nothing() -> None:
    async def script() -> None:
        async with serving(scripted_server(LONG)) as port, proxied(port, Link()) as link:

            def pause() -> None:
                link.open.clear()
                asyncio.get_running_loop().call_later(10, link.open.set)

            late = await answer(link.port, pause)
            assert samples(late) == samples(await answer(port))

    run(script(), patience_s=KERNEL_S)


def test_a_client_that_is_silently_gone_is_noticed_and_others_are_not_disturbed() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with serving(server) as port, proxied(port, Link()) as link:
            client = await opened(link.port)
            await until(client, "session.created")
            link.open.clear()
            began = asyncio.get_running_loop().time()
            async with await opened(port) as other:
                while server.sessions > 1:
                    await asyncio.sleep(0.1)
                    assert asyncio.get_running_loop().time() - began < 41, "a ping every 20 s, 20 s for the answer"
                await ask(other)
                await until(other, "response.done")
            client.transport.abort()

    run(script(), patience_s=KERNEL_S)


def test_who_reads_too_slowly_loses_its_session() -> None:
    async def script() -> None:
        server = scripted_server(ENDLESS)
        async with serving(server) as port, proxied(port, Link(bytes_per_s=5_000)) as link:
            client = await opened(link.port)
            await ask(client)
            await until(client, "response.created")
            began = asyncio.get_running_loop().time()
            while server.sessions:
                await asyncio.sleep(0.1)
                assert asyncio.get_running_loop().time() - began < 400
            client.transport.abort()

    run(script(), patience_s=KERNEL_S)


@pytest.mark.parametrize("cuts", [[0.0], [2.0], [0.5, 0.5, 0.01, 1.0, 0.2]], ids=str)
def test_talk_goes_on_when_its_connection_is_cut_and_hears_every_sample_once(
    cuts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cuts`: seconds after the answer began, and between them."""
    lines, accepted, acknowledged = list[str](), asyncio.Event(), list[int]()
    forget = Missed.forget

    def noted(missed: Missed, item_id: str, played_ms: int) -> None:
        acknowledged.append(played_ms)
        forget(missed, item_id, played_ms)

    monkeypatch.setattr(Missed, "forget", noted)

    def tell(line: str) -> None:
        lines.append(line)
        if "for us" in line:
            accepted.set()

    async def talk(port: int) -> Conversation:
        return await converse(f"ws://127.0.0.1:{port}/v1/realtime", SAID, tell=tell)

    async def script() -> None:
        server = scripted_server(LONG)
        async with serving(server) as port, proxied(port, Link()) as link:
            whole = await talk(port)
            accepted.clear()
            talking = asyncio.create_task(talk(link.port))
            await accepted.wait()
            for seconds in cuts:
                await asyncio.sleep(seconds)
                link.cut()
            interrupted = await talking
            assert sum("back in the session" in line for line in lines) >= 1
            assert [reply.status for reply in interrupted.replies.values()] == ["completed"]
            [reply], [expected] = interrupted.replies.values(), whole.replies.values()
            assert reply.text == expected.text
            assert np.array_equal(reply.audio, expected.audio)
            assert interrupted.heard_samples(reply.id) == len(expected.audio)
            assert acknowledged[-1] == pytest.approx(len(expected.audio) / 24, abs=500)
            await asyncio.sleep(0.5)
            assert server.sessions == 0, "a client that says goodbye is not waited for"

    run(script(), patience_s=KERNEL_S)


def test_bad_links_of_some_do_not_move_the_latency_of_others() -> None:
    async def p99(bad: list[dict[str, float]]) -> tuple[float, ...]:
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(scripted_server(ENDLESS), SEND_BUFFER))
            links = [await stack.enter_async_context(proxied(port, Link(seed=n, **one))) for n, one in enumerate(bad)]
            others = [asyncio.create_task(answer(link.port)) for link in links]
            await asyncio.sleep(FULL_S)
            found = await asyncio.gather(*(latencies(port, 5) for _ in range(6)))
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            return tuple(quantiles(chain.from_iterable(times), n=100)[98] for times in zip(*found, strict=True))

    async def script() -> None:
        alone = await p99([])
        kinds: list[dict[str, float]] = [
            {"jitter_s": 0.3},
            {"stalls": 0.02},
            {"bytes_per_s": 5000},
            {"jitter_s": 0.3, "stalls": 0.02},
        ]
        found = await p99(kinds * 2)
        assert found == pytest.approx(alone, rel=0.2)

    run(script(), patience_s=KERNEL_S)
