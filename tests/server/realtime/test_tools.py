"""Tools on the wire: offered, called, answered, and refused by name."""

import json
from typing import Any

import pytest

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedCall, ScriptedReply
from vita_duplex.server.realtime.tools import DEPTH_LIMIT, SCHEMAS_LIMIT, TOOLS_LIMIT

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALLING = ScriptedReply(calls=(ScriptedCall(),))


def update(**fields: Any) -> Json:
    return {"type": "session.update", "event_id": "mine", "session": {"type": "realtime", **fields}}


def output(call_id: str, text: str = "sunny") -> Json:
    item = {"type": "function_call_output", "call_id": call_id, "output": text}
    return {"type": "conversation.item.create", "event_id": "mine", "item": item}


def errors(socket: Socket) -> list[tuple[str, str]]:
    return [(event["error"]["code"], event["error"]["param"]) for event in socket.all("error")]


def test_a_spoken_question_is_answered_with_a_call_and_the_output_aloud() -> None:
    async def script() -> None:
        async with connected(scripted_server(CALLING)) as socket:
            socket.put(update(tools=[WEATHER]))
            await socket.speak()
            done = await socket.until("response.done")
            [call] = done["response"]["output"]
            assert (call["type"], call["name"], call["arguments"]) == (
                "function_call",
                "get_weather",
                '{"city": "Paris"}',
            )
            assert socket.all("response.output_audio.delta") == []
            socket.put(output(call["call_id"]))
            socket.put({"type": "response.create"})
            done = await socket.until("response.done", 2)
            [message] = done["response"]["output"]
            assert message["content"][0]["transcript"] == "The tool said sunny."
            added = [event["item"]["type"] for event in socket.all("conversation.item.added")]
            assert added == ["message", "function_call", "function_call_output", "message"]
            assert errors(socket) == []

    run(script())


def test_text_and_calls_are_items_of_their_own() -> None:
    saying = CALLING.model_copy(update={"text_with_calls": "One moment."})

    async def script() -> None:
        async with connected(scripted_server(saying)) as socket:
            socket.put(update(tools=[WEATHER], output_modalities=["text"]))
            await socket.speak()
            done = await socket.until("response.done")
            items = done["response"]["output"]
            assert sorted(item["type"] for item in items) == ["function_call", "message"]
            added = [(one["output_index"], one["item"]["id"]) for one in socket.all("response.output_item.added")]
            assert added == [(place, item["id"]) for place, item in enumerate(items)]

    run(script())


def nested(levels: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


RECURSIVE = {"$defs": {"a": {"properties": {"next": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{**WEATHER, "name": f"f{n}"} for n in range(TOOLS_LIMIT + 1)]}, "session.tools"),
        ({"tools": [{**WEATHER, "description": "x" * SCHEMAS_LIMIT}]}, "session.tools"),
        ({"tools": [{**WEATHER, "parameters": nested(DEPTH_LIMIT)}]}, "session.tools.0"),
        ({"tools": [{**WEATHER, "parameters": RECURSIVE}]}, "session.tools.0"),
        ({"tools": [{**WEATHER, "parameters": {"$ref": "#"}}]}, "session.tools.0"),
        ({"tools": [WEATHER, WEATHER]}, "session.tools.1"),
        ({"tools": [{**WEATHER, "name": "two words"}]}, "session.tools.0"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "session.tools.0"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "session.tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "perhaps"}, "session.tool_choice"),
    ],
)
def test_tools_that_cannot_be_offered_are_refused_by_name(fields: Json, param: str) -> None:
    async def script() -> None:
        async with connected(scripted_server(CALLING)) as socket:
            socket.put(update(**fields))
            await socket.until("error")
            assert errors(socket) == [("invalid_value", param)]
            await socket.speak()
            await socket.until("response.done")

    run(script())


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        (output("call_of_nobody"), "call_not_found", "item.call_id"),
        (output("call_x", "x" * 10_000_000), "invalid_value", "item.output"),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{half"},
            },
            "invalid_value",
            "item.arguments",
        ),
    ],
)
def test_bad_items_are_refused_by_name(frame: Json, code: str, param: str) -> None:
    async def script() -> None:
        async with connected(scripted_server(CALLING)) as socket:
            socket.put(frame)
            await socket.until("error")
            assert errors(socket) == [(code, param)]

    run(script())


def test_a_history_with_calls_is_brought_along_whole() -> None:
    async def script() -> None:
        server = scripted_server(CALLING)
        async with connected(server) as socket:
            call = {"type": "function_call", "call_id": "old", "name": "get_weather", "arguments": "{}"}
            for item in (call, {"type": "function_call_output", "call_id": "old", "output": "rain"}):
                socket.put({"type": "conversation.item.create", "previous_item_id": "root", "item": item})
            await socket.until("conversation.item.done", 2)
            assert errors(socket) == []
            socket.put(output("old"))
            await socket.until("error")
            assert errors(socket) == [("call_already_answered", "item.call_id")]
            socket.put({"type": "response.create", "response": {"output_modalities": ["text"]}})
            done = await socket.until("response.done")
            assert done["response"]["output"][0]["content"][0]["text"] == "The tool said rain."

    run(script())


def test_calls_can_be_the_input_of_a_response() -> None:
    async def script() -> None:
        async with connected(scripted_server(CALLING)) as socket:
            call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": json.dumps({"a": 1})}
            told = {"type": "function_call_output", "call_id": "c", "output": "seven"}
            socket.put({"type": "response.create", "response": {"conversation": "none", "input": [call, told]}})
            done = await socket.until("response.done")
            assert done["response"]["output"][0]["content"][0]["text"] == "The tool said seven."

    run(script())


def test_after_the_session_was_taken_up_again_an_output_counts_once() -> None:
    async def script() -> None:
        server = scripted_server(CALLING)
        async with connected(server, "resume=true") as first:
            first.put(update(tools=[WEATHER]))
            await first.speak()
            call = (await first.until("response.done"))["response"]["output"][0]
            first.leave()
            token = (await first.until("session.created"))["resume_token"]
            async with connected(server, f"resume=true&resume_token={token}&last_event_id=event_1") as back:
                await back.until("session.resumed")
                told = [one for one in back.all("response.output_item.done") if one["item"]["type"] == "function_call"]
                assert [one["item"]["call_id"] for one in told] == [call["call_id"]]
                back.put(output(call["call_id"]))
                back.put(output(call["call_id"]))
                await back.until("error")
                back.put({"type": "response.create"})
                await back.until("response.done", 2)
                assert errors(back) == [("call_already_answered", "item.call_id")]

    run(script())
