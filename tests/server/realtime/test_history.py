"""A dialogue that a client brings along: where its items stand, their ids, and how many there may be."""

import asyncio

import pytest

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, Message, UserMessage
from vita_duplex.server.realtime.items import ITEM_LIMIT, TEXT_LIMIT
from vita_duplex.server.server import Server

SHORT = ScriptedReply(transcript="what is it", text="It is short.")


def said(role: str, text: str, item_id: str | None = None, behind: str | None = None) -> Json:
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
    item: Json = {"type": "message", "role": role, "content": [part]}
    created: Json = {"type": "conversation.item.create", "event_id": f"create {item_id}", "item": item}
    if item_id:
        item["id"] = item_id
    return {**created, "previous_item_id": behind} if behind else created


async def asked(server: Server, socket: Socket, answers: int = 1) -> tuple[Message, ...]:
    """Ask for an answer; return the dialogue that the model was shown."""
    socket.put(said("user", "and now?"))
    socket.put({"type": "response.create"})
    await socket.until("response.done", answers)
    assert server.parts
    queries = [query for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]
    return max((query.history for query in queries), key=len)  # type: ignore[no-any-return]


def errors(socket: Socket) -> list[tuple[str, str]]:
    return [(event["error"]["code"], event["error"]["event_id"]) for event in socket.all("error")]


def order(socket: Socket) -> list[str]:
    """The items in the order that a client makes of what it is told."""
    ids: list[str] = []
    for event in socket.events:
        if event["type"] == "conversation.item.added":
            before = event["previous_item_id"]
            ids.insert(ids.index(before) + 1 if before else 0, event["item"]["id"])
        if event["type"] == "conversation.item.deleted":
            ids.remove(event["item_id"])
    return ids


def test_items_are_put_at_the_beginning_in_the_middle_and_at_the_end() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            socket.put(said("user", "two", "b", "root"))
            socket.put(said("assistant", "three", "c", "b"))
            socket.put(said("user", "one", "a", "root"))
            socket.put(said("system", "Be brief.", "s", "a"))
            socket.put(said("assistant", "one and a half", "ab", "s"))  # behind what no dialogue holds
            socket.put(said("user", "lost", "x", "nowhere"))
            await socket.until("error")
            assert order(socket) == ["a", "s", "ab", "b", "c"]
            assert errors(socket) == [("item_not_found", "create x")]
            assert await asked(server, socket) == (
                UserMessage("one"), AssistantMessage("one and a half"), UserMessage("two"), AssistantMessage("three"),
            )  # fmt: skip

    run(script())


def test_what_is_put_among_what_was_said_is_not_asked_about() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            await asked(server, socket)
            socket.put(said("user", "earlier", "a", "root"))
            socket.put({"type": "response.create"})
            await socket.until("response.done", 2)
            assert server.parts
            last = [one.queries[-1] for one in server.parts.pool.instances if one.queries]  # type: ignore[attr-defined]
            assert [(query.history[0], query.utterances) for query in last] == [(UserMessage("earlier"), ())]

    run(script())


def test_two_sessions_give_no_id_twice_and_one_takes_in_the_items_of_the_other() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for number in range(1, 21):
                await asked(server, socket, number)
            items = [event["item"] for event in socket.all("conversation.item.done")]
            assert len(items) == 40
        async with connected(server) as socket:
            own = []
            for number in range(1, 3):
                await asked(server, socket, number)
                own = order(socket)
            behind = "root"
            for item in items:
                item["content"] = [{"type": "input_text", "text": "and now?"}] if item["role"] == "user" else [
                    {"type": "output_text", "text": SHORT.text}
                ]  # fmt: skip
                socket.put({"type": "conversation.item.create", "previous_item_id": behind, "item": item})
                behind = item["id"]
            history = await asked(server, socket, 3)
            assert order(socket)[: 40 + len(own)] == [*(item["id"] for item in items), *own]
            assert history == (UserMessage("and now?"), AssistantMessage(SHORT.text)) * 22
            assert errors(socket) == []

    run(script())


def test_an_id_is_given_once_and_free_again_when_its_item_is_deleted() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            await asked(server, socket)
            reply, coming = socket.item("reply", 1), socket.item("user", 99)
            for wanted in ("a", "a", reply, coming):
                socket.put(said("assistant", "x", wanted))
            for deleted in ("a", reply):
                socket.put({"type": "conversation.item.delete", "item_id": deleted})
                socket.put(said("assistant", f"again {deleted}", deleted, "root"))
            await socket.until("conversation.item.deleted", 2)
            assert errors(socket) == [
                ("item_create_duplicate_item_id", f"create {wanted}") for wanted in ("a", reply, coming)
            ]
            history = await asked(server, socket, 2)
            assert [message.text for message in history] == [f"again {reply}", "again a", "and now?"]
            socket.put({"type": "conversation.item.retrieve", "item_id": reply})
            retrieved = await socket.until("conversation.item.retrieved")
            assert retrieved["item"]["content"] == [{"type": "output_text", "text": f"again {reply}"}]

    run(script())


@pytest.mark.parametrize(
    ("count", "text", "kept"),
    [(10_000, "x", ITEM_LIMIT), (80, "x" * 20_000, TEXT_LIMIT // 20_000)],
    ids=["many items", "long items"],
)
def test_what_is_too_much_pushes_out_the_oldest_and_is_said_once(count: int, text: str, kept: int) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server) as socket:
            for number in range(count):
                socket.put(said("user" if number % 2 else "assistant", text, f"i{number}"))
            await asyncio.sleep(1)  # virtual: until all is taken
            for number in (count - kept - 1, count - kept):
                socket.put({"type": "conversation.item.retrieve", "event_id": f"get {number}", "item_id": f"i{number}"})
            await socket.until("conversation.item.retrieved")
            assert errors(socket) == [
                ("too_many_items", f"create i{kept}"), ("item_not_found", f"get {count - kept - 1}"),
            ]  # fmt: skip
            assert len(await asked(server, socket)) <= kept

    run(script())
