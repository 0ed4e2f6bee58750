"""Clients that are broken, greedy or in a hurry: they are told so, and nobody else notices."""

import asyncio
import json
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sockets import Json, Socket, connected, scripted_server
from virtual_time import InlineExecutor, run

from vita_duplex.engine.scripted import ScriptedReply
from vita_duplex.server.app import Server, create_app
from vita_duplex.server.gateway import TYPED_LIMIT
from vita_duplex.server.parts import Parts

SHORT = ScriptedReply(text="It is short, and this is its end.")
LONG = ScriptedReply(text=" ".join(f"word{n}" for n in range(80)) + ".")


def typed(*texts: str) -> Json:
    content = [{"type": "input_text", "text": text} for text in texts]
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


def errors(socket: Socket) -> list[tuple[str, str]]:
    return [(event["error"]["code"], event["error"]["message"]) for event in socket.all("error")]


def item(content: list[Any]) -> Json:
    return {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (item([{}] * 1000), ("invalid_value", "item.content: List should have at most 16 items")),
        (typed(*["x" * 15_000] * 2), ("invalid_value", "item.content: Value error, more than 20000 characters")),
        (
            {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"] * 1000}},
            ("invalid_value", "session.output_modalities: List should have at most 16 items"),
        ),
        ({"type": "response.create", "event_id": "x" * 10_000}, ("invalid_value", "event_id: String should have")),
        ({"type": 5, "event_id": ["x"]}, ("unknown_event", "Unknown or unsupported event type None")),
    ],
)
def test_long_lists_and_names_are_refused_in_one_short_error(frame: Json, told: tuple[str, str]) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            socket.put(frame)
            error = await socket.until("error")
            [(code, message)] = errors(socket)
            assert (code, message[: len(told[1])]) == told
            assert len(json.dumps(error)) < 1000

    run(script())


def test_typed_items_that_nobody_asks_about_are_bounded() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as socket:
            for _ in range(TYPED_LIMIT + 3):
                socket.put(typed("and another thing"))
            socket.put({"type": "response.create"})
            await socket.until("response.done")
            assert len(socket.all("conversation.item.added")) == TYPED_LIMIT + 1  # and the reply
            assert [code for code, _ in errors(socket)] == ["too_many_items"] * 3
            socket.put(typed("after the answer there is room again"))
            socket.put({"type": "response.create"})
            await socket.until("response.done", 2)
            assert len(errors(socket)) == 3

    run(script())


def test_questions_typed_faster_than_they_can_be_judged_are_bounded() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for _ in range(10 * TYPED_LIMIT):
                socket.put(typed("me again"))
                socket.put({"type": "response.create"})
                await asyncio.sleep(0.01)  # a verdict takes 0.05 s
            await socket.until("response.done")
            assert {code for code, _ in errors(socket)} == {"too_many_items", "nothing_to_answer"}
            assert server.parts is not None
            asked = [query for instance in server.parts.pool.instances for query in instance.queries]  # type: ignore[attr-defined]
            assert max(len(query.utterances) for query in asked) <= TYPED_LIMIT

    run(script())


def test_a_late_cancel_of_an_earlier_reply_does_not_hit_the_next_one() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT, LONG)) as socket:
            for number in (1, 2):
                socket.put(typed("a question"))
                socket.put({"type": "response.create"})
                await socket.until("response.created", number)
                if number == 1:
                    await socket.until("response.done")
            first, second = (event["response"]["id"] for event in socket.all("response.created"))
            socket.put({"type": "response.cancel", "response_id": first})
            await socket.until("error")
            assert [code for code, _ in errors(socket)] == ["response_cancel_not_active"]
            await asyncio.sleep(1)
            assert len(socket.all("response.done")) == 1
            socket.put({"type": "response.cancel", "response_id": second})
            socket.put({"type": "response.cancel", "response_id": second})
            await socket.until("response.done", 2)

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
    """Takes a second for what it is given."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        result = fn(*args, **kwargs)
        asyncio.get_running_loop().call_later(1.0, lambda: future.cancelled() or future.set_result(result))
        return future


def test_a_file_pushed_in_too_fast_is_cut_a_few_times_and_not_in_every_word() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        assert server.parts is not None
        server.parts = replace(server.parts, vad_executor=SlowExecutor())  # twice the pace of speech
        async with connected(server) as socket:
            frame = np.zeros(480, np.int16).tobytes()
            for _ in range(10 * 60 * 50):  # ten minutes at ten times the pace of speech
                socket.put(frame)
                await asyncio.sleep(0.002)
            assert [code for code, _ in errors(socket)] == ["input_audio_overflow"] * 3

    run(script())


def test_a_connection_that_the_web_server_gave_up_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            await socket.until("session.created")
            socket.broken = True  # as when the network is gone and no pong comes
            socket.put("no json")
            await asyncio.sleep(1)
            assert server.sessions == 0

    run(script())
    assert caplog.text == ""


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
