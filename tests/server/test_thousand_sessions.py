"""A thousand sessions over real sockets, half of them cut off and some of those resumed, leave nothing behind."""

import asyncio
import gc
import json
from typing import Any

import numpy as np
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.engine.instances.scripted import ScriptedReply

Json = dict[str, Any]

AT_ONCE = 16
QUESTION = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what is it?"}]}
QUICK = ScriptedReply(text="One. " + "two " * 40, verdict_s=0.0, token_s=0.001)
AUDIO = (0.3 * 32767 * np.sin(np.arange(4800))).astype("<i2").tobytes()


async def visit(port: int, number: int) -> None:
    """One session: two ways of using it, in mid-answer or not, left politely or by cutting the connection; every
    fourth of those that are cut comes back, hears its answer to the end, and leaves politely."""
    comes_back = number % 8 == 1
    address = f"ws://127.0.0.1:{port}/v1/realtime?vita_events=true&queue=true" + ("&resume=true" if comes_back else "")
    async with connect(address) as client:
        created = await until(client, "session.created")
        if number % 4 < 2:
            await client.send(json.dumps({"type": "conversation.item.create", "item": QUESTION}))
            await client.send(json.dumps({"type": "response.create"}))
            last = await until(client, "response.output_audio.delta")
        else:
            for _ in range(5):
                await client.send(AUDIO)
            last = await until(client, "vita.speech")
        if number % 2:
            client.transport.abort()
    if comes_back:
        token = f"&resume_token={created['resume_token']}&last_event_id={last['event_id']}"
        async with connect(address + token) as client:
            await until(client, "session.resumed")
            assert (await until(client, "response.done"))["response"]["status"] == "completed"


async def until(client: ClientConnection, kind: str) -> Json:
    async with asyncio.timeout(120):
        while (event := json.loads(await client.recv()))["type"] != kind:
            pass
    return event


async def visits(port: int, count: int) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with places:
            await visit(port, number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(one(number))


@pytest.mark.long
async def test_a_thousand_sessions_leave_no_task_no_descriptor_and_no_object() -> None:
    process = psutil.Process()
    server = scripted_server(QUICK, server={"max_sessions": AT_ONCE})

    async def left() -> tuple[int, int, int]:
        async with asyncio.timeout(120):
            while server.sessions or len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - anything may be left
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        gc.collect()
        return len(asyncio.all_tasks()), process.num_fds(), len(gc.get_objects())

    async with serving(server) as port:
        tasks = len(asyncio.all_tasks())
        await visits(port, 100)  # what is kept once for all is there from here on
        before = await left()
        await visits(port, 1000)
        after = await left()
    assert after[:2] == before[:2]
    assert after[2] < before[2] + 1000, "less than an object a session"
    assert server.admission.waiting == 0
    assert server.parts is not None
    assert set(server.parts.pool.generators.values()) == {0}
    assert [instance.running for instance in server.parts.pool.instances] == [0, 0]  # type: ignore[attr-defined]
