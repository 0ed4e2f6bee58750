"""Random clients that speak, type, cancel and fall silent in any order: what they are told stays consistent."""

import asyncio
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from tests.support.seed import SEED
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply

REPLIES = (
    ScriptedReply(text=" ".join(f"word{n} and so on." for n in range(12)), token_s=0.001),
    ScriptedReply(p1=0.1, transcript="secret words", text="secret answer"),
    ScriptedReply(p1=0.55, text="It is short, and this is its end.", token_s=0.2),
    ScriptedReply(text="One two three four five six seven eight nine ten.", token_s=0.05),
)
reference = TypeAdapter[Any](RealtimeServerEvent)


class RandomClient:
    """Does what stock clients do, at any moment."""

    def __init__(self, socket: Socket, dice: random.Random) -> None:
        self._socket, self._dice = socket, dice
        self._typed = 0

    async def act(self) -> None:
        moves = (
            self._speak,
            self._break_off,
            self._type,
            self._type_and_wait,
            self._cancel,
            self._truncate,
            self._clear,
        )
        await self._dice.choice(moves)()
        await asyncio.sleep(self._dice.choice((0.0, 0.05, 0.3, 1.0, 3.0)))

    async def _speak(self) -> None:
        await self._socket.speak(self._dice.choice((0.3, 1.0)))

    async def _break_off(self) -> None:
        """No silence follows, and perhaps a word on that."""
        await self._socket.say((0.3 * np.sin(np.arange(24_000) / 20)).astype(np.float32))
        end = self._dice.choice((None, "input_audio_buffer.commit", "input_audio_buffer.clear"))
        if end:
            self._socket.put({"type": end})

    async def _type(self) -> None:
        self._add()
        self._socket.put({"type": "response.create"})

    async def _type_and_wait(self) -> None:
        """As clients that ask for an answer when the reply under way is done."""
        self._add()
        if self._active:
            async with asyncio.timeout(60):
                while self._active:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        self._socket.put({"type": "response.create"})

    def _add(self) -> None:
        self._typed += 1
        part = {"type": "input_text", "text": f"question {self._typed}?"}
        item = {"type": "message", "role": "user", "content": [part]}
        self._socket.put({"type": "conversation.item.create", "item": item})

    async def _cancel(self) -> None:
        self._socket.put({"type": "response.cancel"})

    async def _truncate(self) -> None:
        if replies := self._socket.all("response.output_item.added"):
            item_id = replies[-1]["item"]["id"]
            self._socket.put({"type": "conversation.item.truncate", "item_id": item_id, "audio_end_ms": 300})
            self._socket.put({"type": "response.cancel"})

    async def _clear(self) -> None:
        self._socket.put({"type": "output_audio_buffer.clear"})

    @property
    def _active(self) -> bool:
        kinds = self._socket.kinds()
        return kinds.count("response.created") > kinds.count("response.done")


def check(events: list[Json]) -> None:
    for event in events:
        if not event["type"].startswith("vita."):
            reference.validate_python(event)
    by_response: dict[str, list[Json]] = {}
    for event in events:
        response_id = event.get("response_id") or event.get("response", {}).get("id")
        if response_id and not event["type"].startswith("vita."):
            by_response.setdefault(response_id, []).append(event)
    begun = [event["response"]["id"] for event in events if event["type"] == "response.created"]
    for response_id in begun:
        check_response(by_response[response_id])
    newest = ""
    for event in events:  # no reply is heard when another has begun
        if event["type"] == "response.created":
            newest = event["response"]["id"]
        if event["type"] == "response.output_audio.delta":
            assert event["response_id"] == newest
    items = Counter(event["item"]["id"] for event in events if event["type"] == "conversation.item.added")
    assert set(items.values()) == {1}
    committed = [event["item_id"] for event in events if event["type"] == "input_audio_buffer.committed"]
    started, stopped = (
        Counter(event["item_id"] for event in events if event["type"] == f"input_audio_buffer.speech_{what}")
        for what in ("started", "stopped")
    )
    assert set(started.values()) <= {1}
    assert started == stopped, "told of speech without an end, or the other way round"
    assert set(committed) <= set(started)


def check_response(events: list[Json]) -> None:
    kinds = Counter(event["type"] for event in events)
    assert kinds["response.created"] == kinds["response.done"] == 1
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_audio_transcript.delta")
    [told] = [event["transcript"] for event in events if event["type"] == "response.output_audio_transcript.done"]
    [done] = [event["response"] for event in events if event["type"] == "response.done"]
    assert deltas == told == done["output"][0]["content"][0]["transcript"]
    after = [event["type"] for event in events[[event["type"] for event in events].index("response.done") + 1 :]]
    assert set(after) <= {"response.output_audio.delta"}


@pytest.mark.parametrize("number", range(8))
def test_whatever_a_client_does_what_it_is_told_is_consistent(number: int) -> None:
    async def script() -> None:
        dice = random.Random(SEED + number)
        async with connected(scripted_server(*REPLIES), dice.choice(("", "vita_events=true"))) as socket:
            client = RandomClient(socket, dice)
            for _ in range(25):
                await client.act()
            await asyncio.sleep(60)
            count = len(socket.all("response.done"))
            part = {"type": "input_text", "text": "still there?"}
            item = {"type": "message", "role": "user", "content": [part]}
            socket.put({"type": "conversation.item.create", "item": item})
            socket.put({"type": "response.create"})
            done = await socket.until("response.done", count + 1)
            assert done["response"]["status"] == "completed"
            await asyncio.sleep(5)
            check(socket.events)
            codes = {event["error"]["code"] for event in socket.all("error")}
            known = {
                "response_cancel_not_active", "input_audio_buffer_commit_empty", "input_audio_buffer_commit_rejected",
                "conversation_already_has_active_response",
            }  # fmt: skip
            assert codes <= known

    run(script())
