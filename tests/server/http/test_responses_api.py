"""`/v1/responses`, asked by OpenAI's own client."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseStreamEvent
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from tests.support.sockets import scripted_server
from vita_duplex.engine.instances.scripted import ScriptedCall, ScriptedReply
from vita_duplex.engine.messages import Call, Finished, Usage
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http import responses_store
from vita_duplex.server.http.app import create_app
from vita_duplex.server.http.responses_events import ResponseEvents
from vita_duplex.server.http.responses_requests import ResponsesRequest, chat_request, messages
from vita_duplex.server.http.responses_store import KEPT_S, Kept, ResponsesStore
from vita_duplex.server.server import Server

QUICK = ScriptedReply(text="one two three", verdict_s=0, token_s=0)
SECOND = ScriptedReply(text="four", verdict_s=0, token_s=0)


@asynccontextmanager
async def client(server: Server, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(server)))
    address = "http://127.0.0.1:8000/v1"
    async with AsyncOpenAI(base_url=address, api_key=key, max_retries=0, http_client=http) as openai_client:
        yield openai_client


async def refused(server: Server, **wishes: Any) -> openai.APIStatusError:
    async with client(server) as asked:
        with pytest.raises(openai.APIStatusError) as error:
            await asked.responses.create(**{"model": "any", "input": "hello"} | wishes)
    return error.value


async def test_a_text_is_answered_in_the_form_of_the_reference() -> None:
    async with client(scripted_server(QUICK)) as asked:
        answer = await asked.responses.create(model="any", input="hello there", instructions="Be brief.")
    assert (answer.output_text, answer.status, answer.model) == ("one two three", "completed", "scripted")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (4, 3, 7)
    [message] = answer.output
    assert (message.type, message.status) == ("message", "completed")


async def test_streamed_it_comes_as_the_events_of_the_reference() -> None:
    async with client(scripted_server(QUICK)) as asked:
        events = [event async for event in await asked.responses.create(model="any", input="hello", stream=True)]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(11))
    assert "".join(event.delta for event in events[4:7]) == events[7].text == "one two three"
    assert events[0].response.output == []
    assert events[2].item.content == []
    assert events[-1].response.output_text == "one two three"
    assert {event.item_id for event in events[3:9]} == {events[2].item.id}


async def test_the_clients_own_helpers_read_it() -> None:
    class Place(BaseModel):
        city: str

    said = ScriptedReply(text='{"city": "Paris"}', verdict_s=0, token_s=0)
    async with client(scripted_server(said)) as asked:
        parsed = await asked.responses.parse(model="any", input="where?", text_format=Place)
        assert parsed.output_parsed == Place(city="Paris")
        async with asked.responses.stream(model="any", input="hello") as stream:
            async for _ in stream:
                pass
            assert (await stream.get_final_response()).output_text == said.text


def test_a_call_is_an_item_of_its_own() -> None:
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    request = ResponsesRequest.model_validate({"input": "rain?", "tools": [tool], "tool_choice": "required"})
    answer = ResponseEvents(request, "m", 0)
    items = ["Let me see.", Call("call_1", "weather", '{"city": "Rome"}'), Finished("calls", Usage(1, 2))]
    events = [*answer.begin(), *(event for item in items for event in answer.push(item))]
    told: list[Any] = [TypeAdapter(ResponseStreamEvent).validate_python(event) for event in events]
    assert [event.type for event in told][-5:-1] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    message, call = told[-1].response.output
    assert (message.type, call.type, call.call_id, call.arguments) == (
        "message", "function_call", "call_1", '{"city": "Rome"}',
    )  # fmt: skip
    assert [*answer.said.values()][1]["tool_calls"][0]["function"]["name"] == "weather"


async def test_a_tool_is_called_and_its_output_answered_by_reference_or_by_response() -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    calling = QUICK.model_copy(update={"calls": (ScriptedCall(name="weather"),)})
    async with client(scripted_server(calling)) as asked:
        first = await asked.responses.create(model="any", input="rain?", tools=[tool])
        [call] = first.output
        assert call.type == "function_call"
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        by_items: Any = [{"role": "user", "content": "rain?"}, {"type": "item_reference", "id": call.id}, output]
        answer = await asked.responses.create(model="any", input=by_items, tools=[tool])
        assert answer.output_text == "The tool said sunny."
        answer = await asked.responses.create(model="any", input=[output], previous_response_id=first.id, tools=[tool])
        assert answer.output_text == "The tool said sunny."


def test_calls_and_their_outputs_are_messages_of_the_dialogue() -> None:
    items = [
        {"role": "user", "content": "rain?"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "yes"}]},
    ]
    function = {"name": "weather", "arguments": "{}"}
    assert messages(ResponsesRequest.model_validate({"input": items}), [], lambda item_id: None)[1:] == [
        {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "yes"},
    ]


async def test_an_answer_that_was_cut_says_so() -> None:
    async with client(scripted_server(QUICK)) as asked:
        answer = await asked.responses.create(model="any", input="hello", max_output_tokens=2)
    assert (answer.status, answer.output_text) == ("incomplete", "one two")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def asked_of(input_: Any, **more: Any) -> list[dict[str, Any]]:
    request = ResponsesRequest.model_validate({"input": input_, **more})
    chat = chat_request(request, messages(request, [], lambda item_id: None))
    return [message.model_dump(exclude_none=True) for message in chat.messages]


def test_a_dialogue_with_images_and_audio_becomes_a_chat() -> None:
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    items = [
        {"role": "developer", "content": "In verse."},
        {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "auto"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Black.", "annotations": []}]},
        {"role": "user", "content": [{"type": "input_text", "text": "And this?"}, audio]},
    ]  # fmt: skip
    assert asked_of(items, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In verse."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Black."}]},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, audio]},
    ]


async def test_a_dialogue_goes_on_from_a_response_or_from_its_items() -> None:
    server = scripted_server(QUICK, SECOND)
    async with client(server) as asked:
        first = await asked.responses.create(model="any", input="hello")
        second = await asked.responses.create(model="any", input="go on", previous_response_id=first.id)
        assert second.output_text == "four", "the second message of the user"
        by_items: list[Any] = [
            {"role": "user", "content": "hello"},
            {"type": "item_reference", "id": first.output[0].id},
            {"role": "user", "content": "go on"},
        ]
        assert (await asked.responses.create(model="any", input=by_items)).output_text == "four"
        assert (await asked.responses.retrieve(first.id)).output_text == "one two three"
        await asked.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await asked.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as gone:
            await asked.responses.create(model="any", input="go on", previous_response_id=first.id)
        assert gone.value.code == "previous_response_not_found"
        assert (await asked.responses.create(model="any", input="go on", previous_response_id=second.id)).output_text


async def test_what_is_not_to_be_kept_is_not() -> None:
    server = scripted_server(QUICK)
    async with client(server) as asked:
        answer = await asked.responses.create(model="any", input="hello", store=False)
        with pytest.raises(openai.NotFoundError):
            await asked.responses.retrieve(answer.id)


async def test_what_one_key_has_asked_no_other_finds() -> None:
    mine, other = new_key(), new_key()
    server = scripted_server(QUICK, access={"keys": {"me": hashed(mine), "you": hashed(other)}})
    app = create_app(server)

    def asked(key: str) -> AsyncOpenAI:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        return AsyncOpenAI(base_url="http://127.0.0.1:8000/v1", api_key=key, max_retries=0, http_client=http)

    answer = await asked(mine).responses.create(model="any", input="hello")
    with pytest.raises(openai.NotFoundError):
        await asked(other).responses.retrieve(answer.id)
    with pytest.raises(openai.NotFoundError):
        await asked(other).responses.delete(answer.id)
    reference: Any = [{"type": "item_reference", "id": answer.output[0].id}, {"role": "user", "content": "x"}]
    with pytest.raises(openai.BadRequestError):
        await asked(other).responses.create(model="any", input=reference)
    assert (await asked(mine).responses.retrieve(answer.id)).id == answer.id


def kept(number: int, size: int = 10, since: float = 0.0) -> Kept:
    message = {"role": "assistant", "content": "x"}
    return Kept(None, since, size, {"id": f"resp_{number}"}, [message], {f"msg_{number}": message})


def test_what_is_kept_is_bounded_in_time_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResponsesStore()
    store.keep(kept(1))
    assert store.find("resp_1", None, KEPT_S - 1)
    assert store.item("msg_1", None, KEPT_S) is None
    monkeypatch.setattr(responses_store, "MOST_BYTES", 25)
    for number in (2, 3, 4):
        store.keep(kept(number))
    assert [bool(store.find(f"resp_{number}", None, 1)) for number in (2, 3, 4)] == [False, True, True]
    store.keep(kept(5, size=26))
    assert [store.find(f"resp_{number}", None, 1) for number in (3, 4, 5)] == [None] * 3


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.id"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, None),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}]}, None),
        ({"text": {"format": {"type": "yaml"}}}, "text.format"),
        ({"temperature": 3}, "temperature"),
    ],
    ids=str,
)
async def test_what_is_not_done_is_refused_by_name(wishes: Any, param: str | None) -> None:
    error = await refused(scripted_server(QUICK), **wishes)
    assert error.status_code == 400, error.message
    if param:
        assert error.param == param


async def test_a_failure_before_the_first_word_has_a_status_and_one_in_the_middle_is_an_event() -> None:
    broken = QUICK.model_copy(update={"fails_after": 0})
    assert (await refused(scripted_server(broken))).status_code == 503
    breaking = QUICK.model_copy(update={"fails_after": 2})
    async with client(scripted_server(breaking)) as asked:
        events = [event async for event in await asked.responses.create(model="any", input="hello", stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "failed"
    assert events[-1].response.output_text == "one"
    assert (await refused(scripted_server(breaking))).status_code == 503


async def test_it_is_counted_and_gives_its_place_back() -> None:
    server = scripted_server(QUICK, server={"max_sessions": 1})
    async with client(server) as asked:
        for _ in range(2):
            await asked.responses.create(model="any", input="hello")
    assert 'requests_total{path="/v1/responses",status="completed"} 2.0' in server.metrics.text().decode()
    assert server.sessions == 0
