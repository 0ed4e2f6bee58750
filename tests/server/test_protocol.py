"""The protocol document: its examples are executed, its tables list every event there is."""

import asyncio
import json
import re
from typing import Any, get_args

import numpy as np
import pytest
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

from tests.support.paths import ROOT
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.realtime.client_events import SUPPORTED

DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SILENCE = "> (six seconds of silence from the microphone)"
QUERY = "vita_events=true&resume=true"
EXAMPLES = re.findall(r"^```\n(.*?)^```", DOCUMENT, re.M | re.S)


def contains(event: Any, shown: Any) -> bool:
    """Whether an event has the fields that are shown."""
    if isinstance(shown, dict):
        return isinstance(event, dict) and all(name in event and contains(event[name], shown[name]) for name in shown)
    return bool(event == shown)


async def answer(socket: Socket, seen: int, shown: Json) -> int:
    """Wait for an event like the one shown, after those seen; return how many are seen then."""
    async with asyncio.timeout(20):
        while True:
            for number, event in enumerate(socket.events[seen:], seen + 1):
                if contains(event, shown):
                    return number
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[2:40])
def test_the_examples_work(example: str) -> None:
    async def script() -> None:
        async with connected(scripted_server(ScriptedReply(text="It is short.")), QUERY) as socket:
            seen = 0
            for line in example.splitlines():
                if line == SILENCE:
                    await socket.say(np.zeros(6 * 24_000, np.float32))
                elif line.startswith("> "):
                    socket.put(json.loads(line[2:]))
                else:
                    seen = await answer(socket, seen, json.loads(line[2:]))

    run(script())


def listed(heading: str) -> dict[str, str]:
    """The events in a section's table, and what is said of them."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0].split("\n\nFields of")[0]
    rows = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("| `")]
    return {name: row[1].strip() for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


def known(union: Any) -> set[str]:
    """The types of the events in one of the reference's unions."""
    return {get_args(event.model_fields["type"].annotation)[0] for event in get_args(get_args(union)[0])}


def test_every_client_event_of_the_reference_is_listed_and_so_is_what_we_take() -> None:
    table = listed("Client events")
    assert {name for name, how in table.items() if how != "added"} == known(RealtimeClientEvent)
    assert {name for name, how in table.items() if how in ("supported", "added")} == set(SUPPORTED)


def test_every_server_event_of_the_reference_is_listed() -> None:
    table = listed("Server events")
    assert {name for name, how in table.items() if how != "added"} == known(RealtimeServerEvent)


def test_what_the_server_sends_is_listed_as_sent() -> None:
    source = "".join(
        (ROOT / "vita_duplex" / "server" / "realtime" / name).read_text(encoding="utf-8")
        for name in ("server_events.py", "response_events.py", "event_writer.py", "gateway.py", "conversation.py")
    )
    table = listed("Server events")
    sent = {name for name in table if f'"{name}"' in source}
    assert sent == {name for name, how in table.items() if how in ("sent", "added")}
