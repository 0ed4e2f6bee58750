"""What a response answers: what waits, the dialogue as it is, or an input of its own. On virtual time."""

import asyncio
from typing import Any

import pytest

from tests.server.realtime.test_conversation_events import (
    LONG,
    SHORT,
    check_types,
    errors,
    item,
    png,
    queries,
    respond,
    run_threads,
    update,
)
from tests.support.sockets import Json, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.messages import AssistantMessage, UserMessage

CANCEL = {"type": "response.cancel"}


def message(role: str, text: str, kind: str = "input_text") -> Json:
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def assistant(text: str) -> Json:
    return {"type": "conversation.item.create", "item": message("assistant", text, "output_text")}


@pytest.mark.parametrize(
    ("events", "instructions", "history"),
    [
        ([], "", ()),
        ([update(instructions="Greet me.")], "Greet me.", ()),
        ([item("Say hello.", role="system")], "Say hello.", ()),
        ([assistant("Hello!")], "", (AssistantMessage("Hello!"),)),
        ([item("Hi."), assistant("Hello!")], "", (UserMessage("Hi."), AssistantMessage("Hello!"))),
    ],
    ids=["nothing", "the session's instructions", "a system message", "an added reply", "an added dialogue"],
)
def test_the_context_is_answered_as_it_is(events: list[Json], instructions: str, history: tuple[Any, ...]) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for event in (*events, respond()):
                socket.put(event)
            done = await socket.until("response.done")
            check_types(socket)
            assert errors(socket) == []
            assert done["response"]["status"] == "completed"
            [query] = queries(server)
            assert (query.instructions, query.history, query.utterances) == (instructions, history, ())
            assert socket.all("vita.verdict") == [], "there was nothing to judge"
            for event in (item("and now?"), respond()):
                socket.put(event)
            await socket.until("response.done", 2)
            assert queries(server)[-1].history == (*history, AssistantMessage(SHORT.text))

    run(script())


def test_an_image_alone_is_answered() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(item("", content=[{"type": "input_image", "image_url": png()}]))
            socket.put(respond())
            await socket.until("response.done")
            assert [len(query.frames) for query in queries(server)] == [1]

    run_threads(script())


def test_instructions_of_a_response_are_words_of_nobody() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(respond(instructions="Greet the user."))
            await socket.until("response.done")
            for event in (item("Fine."), respond()):
                socket.put(event)
            await socket.until("response.done", 2)
            first, second = queries(server)
            assert (first.instructions, first.history, first.utterances) == ("Greet the user.", (), ())
            assert (second.instructions, second.history) == ("", (AssistantMessage(SHORT.text),))

    run(script())


def test_an_interrupted_reply_is_gone_on_with() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server) as socket:
            for event in (item("tell me"), respond()):
                socket.put(event)
            await socket.until("response.output_audio.delta", 20)
            socket.put(CANCEL)
            socket.put(respond())
            await socket.until("response.created", 2)
            assert errors(socket) == []
            heard = queries(server)[-1].history[-1]
            assert isinstance(heard, AssistantMessage)
            assert heard.cut

    run(script())


def test_a_reply_under_way_is_not_cut_to_answer_the_same_dialogue() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG)) as socket:
            for event in (item("tell me"), respond()):
                socket.put(event)
            await socket.until("response.output_audio.delta", 20)
            for event in (respond(), respond(input=[message("user", "and?")])):
                socket.put(event)
            await socket.until("error", 2)
            assert errors(socket) == ["conversation_already_has_active_response"] * 2
            assert (await socket.until("response.done"))["response"]["status"] == "completed"

    run(script())


def test_an_input_stands_for_the_conversation() -> None:
    """In it and beside it; its system messages are instructions, and a reference is as good as the item."""

    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(update(instructions="Be kind."))
            for event in (item("a secret", role="system"), item("one", id="one"), respond()):
                socket.put(event)
            await socket.until("response.done")
            given = [
                message("system", "Be brief."),
                {"type": "item_reference", "id": "one"},
                {"type": "item_reference", "id": socket.item("reply", 1)},
                message("user", "two"),
            ]
            for number, beside in enumerate(({}, {"conversation": "none"}), 2):
                socket.put(respond(input=given, **beside))
                await socket.until("response.done", number)
            socket.put(respond(input=[], instructions="Say hello."))
            await socket.until("response.done", 4)
            check_types(socket)
            assert errors(socket) == []
            for event in (item("what was that?"), respond()):
                socket.put(event)
            await socket.until("response.done", 5)
            answer = AssistantMessage(SHORT.text)
            asked = [(query.instructions, query.history) for query in queries(server)]
            given_history = UserMessage("one"), answer, UserMessage("two")
            assert asked.count(("Be kind.\n\nBe brief.", given_history)) == 2
            assert asked.count(("Say hello.", ())) == 1
            assert ("Be kind.\n\na secret", (UserMessage("one"), answer, answer, answer)) in asked

    run(script())


def test_an_input_that_cannot_be_read_is_refused_by_name() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(update(audio={"input": {"transcription": None}}))
            await socket.speak()
            await socket.until("response.done")
            for reference in ("nobody", socket.item("user", 1)):
                socket.put(respond(input=[{"type": "item_reference", "id": reference}]))
            await asyncio.sleep(1)
            assert [(one["error"]["code"], one["error"]["event_id"]) for one in socket.all("error")] == [
                ("item_not_found", "mine"),
                ("unsupported_value", "mine"),
            ]
            assert len(socket.all("response.created")) == 1

    run(script())


# ── cancelling, as stock clients do it ─────────────────────────────────────────────────


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
def test_a_cancel_that_echoes_an_interruption_leaves_the_new_answer_alone(after_s: float) -> None:
    """LiveKit and many tutorials send it when they hear of `speech_started`."""

    async def script() -> None:
        told_at_its_end = SHORT.model_copy(update={"glances": (0.6,)})
        async with connected(scripted_server(LONG, told_at_its_end), "") as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await socket.speak(0.6)
            await socket.until("response.created", 2)
            await asyncio.sleep(after_s)
            socket.put(CANCEL)
            await socket.until("response.done", 2)
            first, second = socket.all("response.done")
            assert first["response"]["status_details"]["reason"] == "turn_detected"
            assert second["response"]["status"] == "completed"
            assert errors(socket) == []

    run(script())


def test_a_cancel_that_echoes_an_interruption_by_a_glance_is_no_error_and_leaves_the_answer_alone() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, SHORT), "") as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            speaking = asyncio.create_task(socket.speak(2.0))
            await socket.until("input_audio_buffer.speech_started", 2)
            socket.put(CANCEL)
            await speaking
            await socket.until("response.done", 2)
            first, second = socket.all("response.done")
            assert first["response"]["status_details"]["reason"] == "turn_detected"
            assert second["response"]["status"] == "completed"
            assert errors(socket) == []

    run(script())


def test_a_cancel_that_is_no_echo_cancels() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, LONG), "") as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await socket.speak(0.6)
            await socket.until("response.created", 2)
            await asyncio.sleep(1.5)
            socket.put(CANCEL)
            done = await socket.until("response.done", 2)
            assert done["response"]["status_details"]["reason"] == "client_cancelled"

    run(script())


def test_the_next_reply_that_a_client_asks_for_can_be_cancelled_at_once() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT, LONG), "") as socket:
            socket.put(item("Hi."))
            socket.put(respond())
            await socket.until("response.done")
            socket.put(item("And?"))
            socket.put(respond())
            await socket.until("response.created", 2)
            socket.put(CANCEL)
            done = await socket.until("response.done", 2)
            assert done["response"]["status"] == "cancelled"

    run(script())


def test_a_cancel_that_comes_too_late_is_no_error_and_one_for_nothing_is_said_as_clients_know_it() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            socket.put(item("Hi."))
            socket.put(respond())
            await socket.until("response.done")
            socket.put(CANCEL)
            await asyncio.sleep(10)
            assert errors(socket) == []
            socket.put(CANCEL)
            error = (await socket.until("error"))["error"]
            assert error["code"] == "response_cancel_not_active"
            assert error["message"].startswith("Cancellation failed: no active response found")

    run(script())
