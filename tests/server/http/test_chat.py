"""`/v1/chat/completions` with scripted instances, asked by OpenAI's own client."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import openai
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from PIL import Image

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import ChatAudio, ChatImage, ChatVideo
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http import media
from vita_duplex.server.http.app import create_app
from vita_duplex.server.http.chat_requests import ChatRequest, check, read
from vita_duplex.server.server import Server

QUICK = ScriptedReply(text="one two three", transcript="what is it", p1=0.9, verdict_s=0, token_s=0)
HELLO = [{"role": "user", "content": "hello there"}]
KEY = new_key()


@asynccontextmanager
async def client(server: Server, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(server)))
    address = "http://127.0.0.1:8000/v1"
    async with AsyncOpenAI(base_url=address, api_key=key, max_retries=0, http_client=http) as openai_client:
        yield openai_client


async def ask(server: Server, messages: Any = HELLO, key: str = "none", **more: Any) -> ChatCompletion:
    async with client(server, key) as asked:
        return await asked.chat.completions.create(model="any", messages=messages, **more)


async def refused(server: Server, messages: Any = HELLO, key: str = "none", **more: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as error:
        await ask(server, messages, key, **more)
    return error.value


def instance(server: Server, number: int = 0) -> ScriptedInstance:
    assert server.parts is not None
    found = server.parts.pool.instances[number]
    assert isinstance(found, ScriptedInstance)
    return found


def url(kind: str, data: bytes, mime: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": f"data:{mime};base64,{base64.b64encode(data).decode()}"}}


def shown(image: Image.Image) -> dict[str, Any]:
    png = io.BytesIO()
    image.save(png, format="PNG")
    return url("image_url", png.getvalue(), "image/png")


def heard(seconds: float, rate: int = 16_000, format: str = "WAV") -> dict[str, Any]:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(int(seconds * rate)) / 20), rate, format=format)
    return sound(file.getvalue())


def sound(data: bytes) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def film(folder: Path, frames: int = 60) -> bytes:
    """At 10 frames a second."""
    path = str(folder / "film.mp4")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    for level in range(frames):
        writer.write(np.full((48, 64, 3), level * 4, np.uint8))
    writer.release()
    return Path(path).read_bytes()


SMALL = shown(Image.new("RGB", (64, 48), "red"))


async def test_a_text_is_answered_in_the_form_of_the_reference() -> None:
    answer = await ask(scripted_server(QUICK))
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "one two three", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)
    assert (answer.object, answer.model) == ("chat.completion", "scripted")
    assert answer.model_extra == {"vita": {"state": "<3>", "p1": 0.0, "p2": 0.0, "p3": 1.0, "transcript": None}}


async def test_a_streamed_answer_comes_in_chunks_with_the_verdict_first_and_the_usage_last() -> None:
    asked = [{"role": "user", "content": [heard(0.5)]}]
    async with client(scripted_server(QUICK)) as openai_client:
        stream = await openai_client.chat.completions.create(
            model="any", messages=asked, stream=True, stream_options={"include_usage": True}
        )
        chunks: list[ChatCompletionChunk] = [chunk async for chunk in stream]
    first, *texts, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert first.model_extra is not None
    verdict = first.model_extra["vita"]
    assert (verdict["state"], verdict["p1"], verdict["transcript"]) == ("<1>", 0.9, "what is it")
    assert [chunk.choices[0].delta.content for chunk in texts] == ["one", " two", " three"]
    assert (last.choices[0].finish_reason, last.usage) == ("stop", None)
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 3
    assert len({chunk.id for chunk in chunks}) == 1


def test_system_messages_anywhere_become_one_at_the_beginning() -> None:
    messages = [*HELLO, {"role": "system", "content": "be brief"}, {"role": "developer", "content": "in verse"}, *HELLO]
    request = ChatRequest.model_validate({"messages": messages})
    check(request)
    chat = read(request)
    assert [(message.role, message.text) for message in chat.messages] == [
        ("system", "be brief\n\nin verse"),
        ("user", HELLO[0]["content"]),
        ("user", HELLO[0]["content"]),
    ]


def test_media_are_taken_as_clients_encode_them(tmp_path: Path) -> None:
    plain = SMALL["image_url"]["url"]
    kind, _, data = plain.partition(";base64,")
    lines = "\n".join(data[at : at + 76] for at in range(0, len(data), 76))
    safe = data.replace("+", "-").replace("/", "_").rstrip("=")
    audio = heard(0.1)["input_audio"]["data"]
    parts = [
        *({"type": "image_url", "image_url": {"url": f"{kind};{more}base64,{code}"}}
          for more, code in (("", lines), ("", safe), ("charset=utf-8;", data))),
        {"type": "input_audio", "input_audio": {"data": f"data:audio/wav;base64,{audio}"}},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{audio}"}},
    ]  # fmt: skip
    [message] = read(ChatRequest.model_validate({"messages": [{"role": "user", "content": parts}]})).messages
    assert message.parts[:3] == (ChatImage(plain),) * 3
    assert [type(part) for part in message.parts[3:]] == [ChatAudio, ChatAudio]


async def test_length_and_stop_end_an_answer() -> None:
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        [choice] = (await ask(scripted_server(QUICK), **limit)).choices
        assert (choice.message.content, choice.finish_reason) == ("one two", "length")
    for stop in ([" three", "x"], " three"):
        [choice] = (await ask(scripted_server(QUICK), stop=stop)).choices
        assert (choice.message.content, choice.finish_reason) == ("one two", "stop")


def test_a_request_becomes_a_chat_with_its_history_and_media(tmp_path: Path) -> None:
    clip = film(tmp_path)
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [SMALL, {"type": "text", "text": "and this?"}]},
        {"role": "assistant", "content": "a square"},
        {"role": "user", "content": [url("video_url", clip, "video/mp4"), heard(1.0, 48_000, "FLAC")]},
    ]
    body = {"messages": messages, "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": "x"}
    chat = read(ChatRequest.model_validate(body))
    assert [message.role for message in chat.messages] == ["system", "user", "assistant", "user"]
    assert chat.messages[1].parts == (ChatImage(SMALL["image_url"]["url"]), "and this?")
    seen, said = chat.messages[3].parts
    assert isinstance(seen, ChatVideo)
    assert isinstance(said, ChatAudio)
    assert len(said.samples) == 16_000
    sampling = chat.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (5, 0.5, 0.9)
    assert (sampling.seed, sampling.stop) == (7, ("x",))


LARGE = Image.new("1", (20_000, 10_000))


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ([sound(b"RIFF no audio")], "invalid_audio", "cannot be decoded"),
        ([sound(b"")], "invalid_audio", "the audio is empty"),
        ([heard(0.01)], "invalid_audio", "the shortest"),
        ([heard(600, 8_000, "FLAC")], "invalid_audio", "too long"),
        ([{"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}], "invalid_audio", "base64"),
        ([shown(LARGE)], "invalid_image", "too large"),
        ([url("image_url", b"no picture", "image/png")], "invalid_image", "cannot be decoded"),
        ([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/cat.png"}}], "invalid_image", "fetches nothing"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], "invalid_image", "fetches nothing"),
        ([url("video_url", b"no film", "video/mp4")], "invalid_video", "cannot be decoded"),
        ([SMALL] * 65, "too_many_media", "64"),
        ([{"type": "file", "file": {}}], "invalid_value", "messages.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_media_that_cannot_be_used_are_refused_and_the_engine_goes_on(content: Any, code: str, said: str) -> None:
    server = scripted_server(QUICK)
    async with client(server) as openai_client:
        create = openai_client.chat.completions.create
        with pytest.raises(openai.BadRequestError) as error:
            await create(model="any", messages=[{"role": "user", "content": content}])
        assert (error.value.code, error.value.type) == (code, "invalid_request_error")
        assert said in f"{error.value.message} {error.value.param}"
        assert (await create(model="any", messages=HELLO)).choices[0].message.content == "one two three"
    assert server.sessions == 0


async def test_the_pictures_of_a_request_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MAX_PIXELS", 64 * 48 + 1)
    assert (await ask(scripted_server(QUICK), [{"role": "user", "content": [SMALL]}])).choices
    error = await refused(scripted_server(QUICK), [{"role": "user", "content": [SMALL, SMALL]}])
    assert error.code == "invalid_image"
    assert "together" in error.message


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools.0"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": "x" * 60_000}}}},
            "response_format",
        ),
        ({"logprobs": True}, "logprobs"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "so"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "so", "tool_call_id": "1"}]}, "messages.0.tool_call_id"),
    ],
    ids=str,
)
async def test_what_is_not_done_is_refused_by_name(more: Any, param: str) -> None:
    error = await refused(scripted_server(QUICK), **{"messages": HELLO} | more)
    assert (error.status_code, error.param) == (400, param)


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def test_a_model_calls_a_tool_and_answers_its_output() -> None:
    server = scripted_server(QUICK)
    answer = await ask(server, tools=[WEATHER], tool_choice="required")
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')
    told = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    history = [*HELLO, choice.message.model_dump(exclude_none=True), told]
    answer = await ask(server, history, tools=[WEATHER])
    assert answer.choices[0].message.content == "The tool said sunny."


async def test_calls_are_streamed() -> None:
    async with client(scripted_server(QUICK)) as asked:
        named = {"type": "function", "function": {"name": "get_weather"}}
        stream = asked.chat.completions.stream(model="any", messages=HELLO, tools=[WEATHER], tool_choice=named)  # type: ignore[arg-type]
        async with stream as events:
            async for _ in events:
                pass
            answer = await events.get_final_completion()
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert [call.function.arguments for call in choice.message.tool_calls or []] == ['{"city": "Paris"}']


async def test_a_model_that_cannot_call_tools_refuses_them() -> None:
    server = scripted_server(QUICK, instances=1)
    instance(server).calls = False  # type: ignore[misc]
    error = await refused(server, tools=[WEATHER])
    assert (error.status_code, error.param) == (400, "tools")


async def test_what_changes_nothing_is_accepted() -> None:
    neutral = {"n": 1, "logprobs": False, "tools": [], "presence_penalty": 0, "response_format": {"type": "text"}}
    more = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "reasoning_effort": "low"}
    unsaid = dict.fromkeys(["stream", "stop", "max_tokens", "temperature", "top_p", "seed", "stream_options", "audio"])
    answer = await ask(scripted_server(QUICK), **neutral, **more, **unsaid)
    assert answer.choices[0].message.content == "one two three"


async def test_a_model_without_eyes_refuses_pictures() -> None:
    server = scripted_server(QUICK, instances=1)
    instance(server).sees = False  # type: ignore[misc]
    error = await refused(server, [{"role": "user", "content": [SMALL]}])
    assert (error.status_code, error.code) == (400, "unsupported_modality")
    assert "cannot see" in error.message


async def test_an_answer_may_have_to_follow_a_schema() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    body = {"messages": HELLO, "response_format": wanted}
    assert read(ChatRequest.model_validate(body)).sampling.schema == schema
    body["response_format"] = {"type": "json_object"}
    assert read(ChatRequest.model_validate(body)).sampling.schema == {"type": "object"}
    assert (await ask(scripted_server(QUICK), response_format=wanted)).choices


async def test_a_model_that_cannot_follow_schemas_says_so() -> None:
    server = scripted_server(QUICK, instances=1)
    instance(server).follows_schemas = False  # type: ignore[misc]
    error = await refused(server, response_format={"type": "json_object"})
    assert (error.status_code, error.code, error.param) == (400, "unsupported_value", "response_format")
    assert (await ask(server, response_format={"type": "text"})).choices


async def test_keys_are_asked_for_and_ephemeral_ones_will_do() -> None:
    server = scripted_server(QUICK, access={"keys": {"laptop": hashed(KEY)}})
    assert (await refused(server)).status_code == 401
    assert (await ask(server, key=KEY)).choices
    ephemeral, _ = server.access.issue("laptop", None, 60, asyncio.get_running_loop().time() + 1e10)
    assert (await ask(server, key=ephemeral)).choices


async def test_a_request_counts_for_its_key() -> None:
    endless = QUICK.model_copy(update={"hangs_after": 1})
    limits = {"key_sessions": 1, "key_bytes_per_s": 100_000}
    server = scripted_server(endless, access={"keys": {"laptop": hashed(KEY)}}, limits=limits)
    async with client(server, KEY) as openai_client:
        create = openai_client.chat.completions.create
        running = asyncio.create_task(create(model="any", messages=HELLO))
        while not server.sessions:  # noqa: ASYNC110 - it is on its way
            await asyncio.sleep(0.01)
        with pytest.raises(openai.RateLimitError) as error:
            await create(model="any", messages=HELLO)
        assert error.value.code == "key_session_limit_reached"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        usage = server.usage("laptop")
        assert usage.sessions == 0
        usage.bytes_in.spend(usage.bytes_in.available(asyncio.get_running_loop().time()) + 300_000, 0)
        with pytest.raises(openai.RateLimitError) as error:
            await create(model="any", messages=HELLO)
        assert error.value.code == "rate_limit_exceeded"
        assert int(error.value.response.headers["retry-after"]) >= 1


async def test_a_full_or_stopping_server_says_so() -> None:
    server = scripted_server(QUICK, server={"max_sessions": 1})
    ticket = server.admission.ask(None, 0, may_wait=False)
    error = await refused(server)
    assert (error.status_code, error.code) == (429, "session_limit_reached")
    server.leave(ticket)  # type: ignore[arg-type]
    server.drain.begin(0)
    error = await refused(server)
    assert (error.status_code, error.code, error.type) == (503, "server_draining", "server_error")


async def test_a_model_that_is_not_there_is_named() -> None:
    server = scripted_server(QUICK)
    assert server.parts is not None
    server.parts = replace(server.parts, pools={**server.parts.pools, "other": server.parts.pool})
    error = await refused(server)
    assert (error.status_code, error.code) == (404, "model_not_found")


async def test_an_instance_that_fails_before_its_first_word_is_replaced() -> None:
    server = scripted_server(QUICK)
    instance(server, 0)._replies = (QUICK.model_copy(update={"fails_after": 0}),)
    assert (await ask(server)).choices[0].message.content == "one two three"
    instance(server, 1)._replies = instance(server, 0)._replies
    error = await refused(server)
    assert (error.status_code, error.code, error.type) == (503, "part_failed", "server_error")


async def test_a_failure_in_mid_stream_is_told_in_the_stream() -> None:
    server = scripted_server(QUICK.model_copy(update={"fails_after": 2}))
    async with serving(server) as port, httpx.AsyncClient() as http:
        address = f"http://127.0.0.1:{port}/v1/chat/completions"
        answer = await http.post(address, json={"messages": HELLO, "stream": True})
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["code"] == "part_failed"
    assert server.sessions == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_stops_the_engine(stream: bool) -> None:
    endless = ScriptedReply(text="word " * 10_000, verdict_s=0, token_s=0.01)
    server = scripted_server(endless, instances=1)
    async with serving(server) as port:
        async with httpx.AsyncClient() as http:
            body = {"messages": HELLO, "stream": stream}
            asking = asyncio.create_task(http.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body))
            while not instance(server).running:  # noqa: ASYNC110 - it is on its way
                await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            while instance(server).running or server.sessions:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def test_requests_are_spread_over_the_instances() -> None:
    server = scripted_server(QUICK.model_copy(update={"hangs_after": 1}))
    async with client(server) as openai_client:
        create = openai_client.chat.completions.create
        asked = [asyncio.create_task(create(model="any", messages=HELLO)) for _ in range(4)]
        while instance(server, 0).running + instance(server, 1).running < 4:  # noqa: ASYNC110 - they are on their way
            await asyncio.sleep(0.005)
        assert [instance(server, 0).running, instance(server, 1).running] == [2, 2]
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_requests_and_tokens_are_in_the_metrics() -> None:
    server = scripted_server(QUICK)
    await ask(server)
    text = server.metrics.text().decode()
    assert 'vita_duplex_requests_total{path="/v1/chat/completions",status="completed"} 1.0' in text
    assert 'vita_duplex_chat_tokens_total{direction="output"} 3.0' in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILE = st.binary(max_size=60) | st.sampled_from([b"RIFF", b"fLaC", b"OggS", b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF89a"])
DATA = FILE.map(lambda data: base64.b64encode(data).decode()) | st.text(max_size=20)
URL = st.builds(
    "{}{}".format, st.sampled_from(["data:image/png;base64,", "data:video/mp4;base64,", "http://", ""]), DATA
)
PART = st.one_of(
    JSON,
    st.fixed_dictionaries({"type": st.just("text"), "text": JSON | st.text(max_size=9)}),
    st.fixed_dictionaries(
        {"type": st.just("input_audio"), "input_audio": JSON | st.fixed_dictionaries({"data": DATA})}
    ),
    *(
        st.fixed_dictionaries({"type": st.just(kind), kind: JSON | st.fixed_dictionaries({"url": URL})})
        for kind in ("image_url", "video_url")
    ),
)
MESSAGE = JSON | st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant"]),
        "content": st.text(max_size=9) | st.lists(PART, max_size=3),
    }
)
NAMES = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "n",
    "tools",
    "logprobs",
]
BODY = st.builds(
    lambda messages, more: {**more, "messages": messages},
    JSON | st.lists(MESSAGE, max_size=4),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3),
)


@pytest.mark.real
def test_whatever_is_sent_is_answered_or_refused() -> None:
    """A bug of ours would be raised through the transport."""
    server = scripted_server(QUICK)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(server)), base_url="http://127.0.0.1:8000")
    loop = asyncio.new_event_loop()

    @settings(max_examples=300, deadline=None)
    @given(BODY)
    def send(body: Any) -> None:
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        answer = loop.run_until_complete(http.post("/v1/chat/completions", content=content, headers=headers))
        assert answer.status_code in (200, 400)
        if answer.status_code == 400:
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert server.sessions == 0

    send()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
