"""Clients that are broken, greedy or in a hurry: they are told so, and nobody else notices."""

import asyncio
import json
import socket
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import InlineExecutor, run
from vita_duplex.cli.serve import UNREAD_LIMIT_MS, listen
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.http.app import create_app
from vita_duplex.server.parts import Parts
from vita_duplex.server.server import Server
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.scripted import LevelVad

SHORT = ScriptedReply(text="It is short, and this is its end.")
LONG = ScriptedReply(text=" ".join("abcdefghij"[n % 10] * 5 for n in range(80)) + ".")


def typed(*texts: str) -> Json:
    content = [{"type": "input_text", "text": text} for text in texts]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


def errors(client: Socket) -> list[tuple[str, str]]:
    return [(event["error"]["code"], event["error"]["message"]) for event in client.all("error")]


def item(content: list[Any]) -> Json:
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (item([{}] * 1000), ("invalid_value", "item.content: List should have at most 16 items")),
        (typed(*["x" * 15_000] * 2), ("invalid_value", "item.content: Value error, more than 20000 characters")),
        (
            {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"] * 1000}},
            ("invalid_value", "session.output_modalities: List should have at most 2 items"),
        ),
        ({"type": "response.create", "event_id": "x" * 10_000}, ("invalid_value", "event_id: String should have")),
        ({"type": 5, "event_id": ["x"]}, ("unknown_event", "Unknown or unsupported event type None")),
    ],
)
def test_long_lists_and_names_are_refused_in_one_short_error(frame: Json, told: tuple[str, str]) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as client:
            client.put(frame)
            error = await client.until("error")
            [(code, message)] = errors(client)
            assert (code, message[: len(told[1])]) == told
            assert len(json.dumps(error)) < 1000

    run(script())


def test_questions_typed_faster_than_they_can_be_answered_stop_one_another() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as client:
            for _ in range(100):
                client.put(typed("me again"))
                client.put({"type": "response.create"})
                await asyncio.sleep(0.01)  # the first word takes 0.07 s
                assert server.parts is not None
                assert sum(instance.running for instance in server.parts.pool.instances) <= 1  # type: ignore[attr-defined]
            await client.until("response.done", 100)
            assert errors(client) == []
            ended = [event["response"]["status"] for event in client.all("response.done")]
            assert ended == ["cancelled"] * 99 + ["completed"]

    run(script())


def test_a_late_cancel_of_an_earlier_reply_does_not_hit_the_next_one() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT, LONG)) as client:
            for number in (1, 2):
                client.put(typed("a question"))
                client.put({"type": "response.create"})
                await client.until("response.created", number)
                if number == 1:
                    await client.until("response.done")
            first, second = (event["response"]["id"] for event in client.all("response.created"))
            client.put({"type": "response.cancel", "response_id": first})
            await client.until("error")
            assert [code for code, _ in errors(client)] == ["response_cancel_not_active"]
            await asyncio.sleep(1)
            assert len(client.all("response.done")) == 1
            client.put({"type": "response.cancel", "response_id": second})
            client.put({"type": "response.cancel", "response_id": second})
            await client.until("response.done", 2)

    run(script())


def test_a_flood_of_frames_does_not_keep_others_from_being_served() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as hasty, connected(server) as other:
            await hasty.until("session.created")
            await other.until("session.created")
            for _ in range(300):
                hasty.put("no json")
            other.put({"type": "input_audio_buffer.clear"})
            await other.until("input_audio_buffer.cleared")
            assert len(hasty.all("error")) < 10

    run(script())


class SlowExecutor(InlineExecutor):
    """Takes half a second for what it is given."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        result = fn(*args, **kwargs)

        def finish() -> None:
            if not future.cancelled():
                future.set_result(result)

        asyncio.get_running_loop().call_later(0.5, finish)
        return future


def test_a_file_pushed_in_too_fast_is_cut_a_few_times_and_not_in_every_word() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        server.parts = replace(server.parts, detector=Detector(LevelVad(), SlowExecutor()))  # twice the pace of speech
        async with connected(server) as client:
            frame = np.zeros(480, np.int16).tobytes()
            for _ in range(10 * 60 * 50):  # ten minutes at ten times the pace of speech
                client.put(frame)
                await asyncio.sleep(0.002)
            assert [code for code, _ in errors(client)] == ["input_audio_overflow"] * 2

    run(script())


def test_a_connection_that_the_web_server_gave_up_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as client:
            await client.until("session.created")
            client.broken = True  # as when the network is gone and no pong comes
            client.put("no json")
            await asyncio.sleep(1)
            assert server.sessions == 0

    run(script())
    assert caplog.text == ""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_an_event_is_sent_before_the_one_ahead_of_it_is_acknowledged() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_connections_end_when_the_client_takes_nothing_of_what_it_is_sent() -> None:
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_LIMIT_MS


def test_ctrl_c_while_models_load_leaves_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    unhandled: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: unhandled.append(hook.exc_value))
    scripted = scripted_server()
    loading, stopped = threading.Event(), threading.Event()

    def load(*_: object) -> Parts:
        loading.set()
        stopped.wait(10)
        assert scripted.parts is not None
        return scripted.parts

    async def serve_briefly() -> None:
        app = create_app(Server(scripted.config, load))
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(loading.wait, 10)

    asyncio.run(serve_briefly())
    [loader] = [thread for thread in threading.enumerate() if thread.name == "load"]
    stopped.set()
    loader.join(10)
    assert unhandled == []
