"""The client of the verdict service that both integrations use, against a server on a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from vita_duplex_verdict import (
    Connected,
    Event,
    Hold,
    Resume,
    Speech,
    Stop,
    Verdict,
    VerdictClient,
    VerdictRefused,
)

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.server import Server

KERNEL_S = 0.0005
QUERY, NOISE = ScriptedReply(p1=0.95, transcript="stop"), ScriptedReply(p1=0.05)


class Talk:
    """A client, what it was told, and a microphone."""

    def __init__(self, port: int, **more: Any) -> None:
        self.client = VerdictClient(f"ws://127.0.0.1:{port}/v1/verdict", **more)
        self.told: list[Event] = []

    async def listen(self) -> None:
        events = self.client.events()
        try:
            async for event in events:
                self.told.append(event)
        finally:
            await events.aclose()

    async def until(self, wanted: Event | type, limit_s: float = 30) -> None:
        async with asyncio.timeout(limit_s):
            while not any(one == wanted or one.__class__ is wanted for one in self.told):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def speak(self, seconds: float, silence_s: float = 1.0) -> None:
        loud = 0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * 16_000)) / 16_000)
        samples = np.concatenate([loud, np.zeros(int(silence_s * 16_000))])
        for start in range(0, len(samples), 320):
            self.client.hear((samples[start : start + 320] * 32767).astype("<i2").tobytes())
            await asyncio.sleep(0.02)


@asynccontextmanager
async def talking(server: Server, **more: Any) -> AsyncIterator[Talk]:
    async with serving(server) as port:
        talk = Talk(port, **more)
        listening = asyncio.create_task(talk.listen())
        try:
            await talk.until(Connected(True))
            yield talk
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def test_a_reply_is_held_and_goes_on_or_is_stopped() -> None:
    async def script() -> None:
        async with talking(scripted_server(NOISE, NOISE, QUERY)) as talk:
            talk.client.reply_started("A story.")  # number 1 of what the session knows; the utterance is the second
            await talk.speak(1.0)
            await talk.until(Verdict)
            assert [one for one in talk.told if isinstance(one, Hold | Resume | Stop)] == [Hold(), Resume()]
            await talk.speak(1.0)
            await talk.until(Stop())
            await talk.until(Verdict(True, 0.95, "stop"))
            assert Speech(True) in talk.told
            talk.client.reply_text("not looked at any more")
            talk.client.reply_ended()

    run(script(), patience_s=KERNEL_S)


def test_a_held_reply_goes_on_when_the_server_is_gone_and_the_client_comes_back() -> None:
    async def script() -> None:
        async with talking(scripted_server(NOISE)) as talk:
            talk.client.reply_started("A story.")
            speaking = asyncio.create_task(talk.speak(3.0))
            await talk.until(Hold())
            assert talk.client._connection is not None
            await talk.client._connection.close()
            await talk.until(Connected(False))
            assert talk.told[-2:] == [Resume(), Connected(False)]
            assert not talk.client.connected
            talk.told.clear()
            await talk.until(Connected(True))
            await speaking
            await talk.speak(1.0)
            await talk.until(Hold(), 10)  # the server was told again of the reply

    run(script(), patience_s=KERNEL_S)


async def test_a_key_that_is_refused_ends_it() -> None:
    async with serving(scripted_server(access={"keys": {"laptop": hashed(new_key())}})) as port:
        with pytest.raises(VerdictRefused, match="401"):
            await Talk(port, api_key="sk-wrong").listen()


async def test_what_nobody_sends_is_not_kept() -> None:
    client = VerdictClient("ws://127.0.0.1:9/v1/verdict")
    client.reply_started()
    for _ in range(1000):
        client.hear(bytes(640))
    assert client._outgoing.qsize() == 0
    client._connection = object()  # type: ignore[assignment]
    for _ in range(1000):
        client.hear(bytes(640))
    assert client._outgoing.qsize() == 100
