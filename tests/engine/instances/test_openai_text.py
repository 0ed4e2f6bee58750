"""A model behind somebody else's chat completions is asked and understood, whatever dialect it has."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.support.chat_servers import PARIS, ROME, ChatHandler
from tests.support.voice_servers import Asked, serving
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.instances.openai_text import OpenAiText, OpenAiTextConfig
from vita_duplex.engine.instances.text_model import TemplateMessage
from vita_duplex.engine.messages import (
    Call,
    CallMessage,
    Finished,
    Query,
    Sampling,
    Tool,
    Tools,
    Usage,
    Utterance,
    Verdict,
)
from vita_duplex.engine.ports import PartFailed, Transcript, Unanswerable

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("weather", "Of a city", CITY)
HI: list[TemplateMessage] = [("system", "Be brief."), ("user", "Hi")]


@pytest.fixture
def served() -> Iterator[tuple[str, Asked]]:
    with serving(ChatHandler) as server:
        yield server


def text(url: str, model: str | None = None, **settings: object) -> OpenAiText:
    return OpenAiText(OpenAiTextConfig.model_validate({"url": f"{url}/v1", "model": model, **settings}))


async def reply(model: OpenAiText, messages: list[TemplateMessage] = HI, **more: object) -> tuple[str, Usage]:
    *deltas, usage = [item async for item in model.reply(messages, **more)]  # type: ignore[arg-type]
    assert isinstance(usage, Usage)
    return "".join(item for item in deltas if isinstance(item, str)), usage


async def test_the_first_model_is_asked_with_key_and_sampling(served: tuple[str, Asked]) -> None:
    url, asked = served
    model = text(url, api_key=SecretStr("0012"), temperature=0.5, max_tokens=40)
    assert await reply(model, max_tokens=9) == ("Hello.", Usage(7, 2))
    [request] = asked.requests
    assert request == {
        "path": "/v1/chat/completions",
        "model": "plain",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 9,
    }
    assert asked.headers[0]["Authorization"] == "Bearer 0012"


@pytest.mark.parametrize(
    ("dialect", "said", "usage"),
    [
        ("thinking", "Hello.", Usage(7, 2)),
        ("parser", "Hello.", Usage(7, 2)),
        ("cut", "Hello.", Usage(7, 2, True)),
        ("uncounted", "Hello.", Usage(0, 0)),
    ],
)
async def test_dialects(served: tuple[str, Asked], dialect: str, said: str, usage: Usage) -> None:
    found, told = await reply(text(served[0], dialect))
    assert (found, told, told.cut) == (said, usage, usage.cut)


async def test_a_model_that_wants_the_newer_name_of_the_limit_gets_it(served: tuple[str, Asked]) -> None:
    model = text(served[0], "new", max_tokens=5)
    for _ in range(2):
        assert (await reply(model))[0] == "Hello."
    assert [request.get("max_completion_tokens") for request in served[1].requests] == [None, 5, 5]


async def test_the_older_half_is_left_out_until_the_server_can_hold_it(served: tuple[str, Asked]) -> None:
    long = [*HI, *((role, str(n)) for n in range(4) for role in ("assistant", "user"))]
    assert (await reply(text(served[0], "small"), long))[0] == "Hello."
    last = served[1].requests[-1]["messages"]
    assert [message["content"] for message in last] == ["Be brief.", "3"]
    with pytest.raises(Unanswerable, match="maximum context length"):
        [item async for item in text(served[0], "small").chat(long, Sampling())]


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ("locked", "401, Incorrect API key"),
        ("half", "the answer broke off"),
        ("broken", "CUDA out of memory"),
        ("page", "does not answer as OpenAI's API does|cannot be reached"),
    ],
)
async def test_failures_are_told_in_one_line(served: tuple[str, Asked], dialect: str, message: str) -> None:
    with pytest.raises(PartFailed, match=message) as caught:
        await reply(text(served[0], dialect))
    assert "\n" not in str(caught.value)


async def test_a_server_that_is_gone_is_down_until_it_is_found_again(served: tuple[str, Asked]) -> None:
    with serving(ChatHandler) as (gone, _):
        model = text(gone, "plain")
    with pytest.raises(PartFailed, match="cannot be reached"):
        await reply(model)
    assert not model.healthy
    with pytest.raises(PartFailed, match="cannot be reached"):
        await model.warm([("user", "")])
    back = text(served[0])
    back.healthy = False
    await back.warm([("user", "")])
    assert back.healthy


async def test_it_is_the_mind_behind_the_same_ears_and_verdict(served: tuple[str, Asked]) -> None:
    class Ears:
        async def transcribe(self, samples: object, language: str | None = None) -> Transcript:
            raise AssertionError("nothing was spoken")

    mind = Cascade("a", Ears(), Judge(), text(served[0]))
    items = [item async for item in mind.answer(Query((), (Utterance(1, text="Hi"),)))]
    assert isinstance(items[0], Verdict)
    assert items[-1] == Usage(7, 2)
    assert mind.healthy
    mind.close()


async def test_a_chat_ends_with_its_reason(served: tuple[str, Asked]) -> None:
    *deltas, end = [item async for item in text(served[0], "cut").chat(HI, Sampling(seed=3, stop=("x",)))]
    assert ("".join(map(str, deltas)), end) == ("Hello.", Finished("length", Usage(7, 2)))
    assert (served[1].requests[0]["seed"], served[1].requests[0]["stop"]) == (3, ["x"])


@pytest.mark.parametrize(
    ("dialect", "arguments", "reason"),
    [
        ("calls", [PARIS, ROME], "calls"),
        ("whole calls", [PARIS, ROME], "calls"),
        ("calls without index", [PARIS, ROME], "calls"),
        ("cut in a call", [PARIS], "length"),
        ("invents", [], "stop"),
        ("bare", ["{}"], "calls"),
        ("plain", [], "stop"),
    ],
)
async def test_calls_come_whole_behind_the_text(
    served: tuple[str, Asked], dialect: str, arguments: list[str], reason: str
) -> None:
    *items, end = [item async for item in text(served[0], dialect).chat(HI, Sampling(), Tools((WEATHER,)))]
    said = [item for item in items if isinstance(item, str)]
    calls = [item for item in items if isinstance(item, Call)]
    assert ("".join(said), items[len(said) :]) == ("Hello.", calls)
    assert [(call.name, call.arguments) for call in calls] == [("weather", one) for one in arguments]
    assert len({call.id for call in calls} | {"call_1", "call_2"}) == len(calls) + 2, "ids of our own"
    assert isinstance(end, Finished)
    assert end.reason == reason


@pytest.mark.parametrize(
    ("tools", "fields"),
    [
        (Tools((WEATHER,)), {"tool_choice": "auto"}),
        (Tools((WEATHER,), "none"), {"tool_choice": "none"}),
        (Tools((WEATHER,), "required", parallel=False), {"tool_choice": "required", "parallel_tool_calls": False}),
        (Tools((WEATHER,), "named", "weather"), {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
    ],
)
async def test_tools_are_offered_as_the_client_wishes(
    served: tuple[str, Asked], tools: Tools, fields: dict[str, object]
) -> None:
    await reply(text(served[0], "plain"), tools=tools)
    [request] = served[1].requests
    function = {"name": "weather", "description": "Of a city", "parameters": CITY}
    assert request["tools"] == [{"type": "function", "function": function}]
    assert {name: request[name] for name in request if name in ("tool_choice", "parallel_tool_calls")} == fields


async def test_a_schema_is_asked_for_in_the_form_of_the_reference(served: tuple[str, Asked]) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    async for _ in text(served[0], "plain").chat(HI, Sampling(schema=schema)):
        pass
    [request] = served[1].requests
    assert request["response_format"]["type"] == "json_schema"
    assert request["response_format"]["json_schema"]["schema"] == schema


async def test_calls_and_their_outputs_are_told_in_the_form_of_the_reference(served: tuple[str, Asked]) -> None:
    made = [
        CallMessage(Call("a", "weather", PARIS), "sunny"),
        CallMessage(Call("b", "weather", "no JSON")),
    ]
    await reply(text(served[0], "plain"), [*HI, ("assistant", "Let me look."), *made, ("user", "So?")])  # type: ignore[list-item]
    system, user, first, sunny, second, waits, asked = served[1].requests[0]["messages"]
    assert (first["role"], first["content"]) == ("assistant", "Let me look.")
    assert [first["tool_calls"][0]["function"], second["tool_calls"][0]["function"]] == [
        {"name": "weather", "arguments": PARIS},
        {"name": "weather", "arguments": "{}"},
    ]
    for call, output in ((first, sunny), (second, waits)):
        assert output["tool_call_id"] == call["tool_calls"][0]["id"]
    assert (sunny["content"], waits["content"]) == ("sunny", "there is no output yet")
    assert (system["role"], user["role"], asked["content"]) == ("system", "user", "So?")


async def test_a_server_whose_model_knows_no_tools_is_quoted(served: tuple[str, Asked]) -> None:
    with pytest.raises(PartFailed, match="toolless does not support tools"):
        await reply(text(served[0], "toolless"), tools=Tools((WEATHER,)))


async def test_a_session_gets_the_calls(served: tuple[str, Asked]) -> None:
    mind = Cascade("a", None, Judge(), text(served[0], "calls"))  # type: ignore[arg-type]
    query = Query((), (Utterance(1, text="Rain?"),), tools=Tools((WEATHER,)))
    calls = [item.arguments async for item in mind.answer(query) if isinstance(item, Call)]
    assert (mind.calls, calls) == (True, [PARIS, ROME])
