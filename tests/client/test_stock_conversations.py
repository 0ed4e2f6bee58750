"""What clients made for OpenAI do besides asking: interrupt, and bring a dialogue along. The table of docs/clients.md.

They need the clients, which `make stock` installs beside. Each test says for which client and which column it stands.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.client.test_clients_page import PAGE, examples
from tests.client.test_stock_clients import LONG, RATE, SHORT, speech, text_item, until
from tests.client.test_stock_clients import test_the_agents_sdk_is_interrupted_by_speech as agents_interrupted
from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, UserMessage
from vita_duplex.server.server import Server

pytestmark = pytest.mark.real

SECOND = ScriptedReply(text="The second answer.", verdict_s=0.0, token_s=0.001)
FIRST = ScriptedReply(text="The first answer.", verdict_s=0.0, token_s=0.001)
BEFORE: list[tuple[str, str]] = [("user", "What is it?"), ("assistant", "It is short."), ("user", "And now?")]
COLUMNS = ("answer", "interruption", "tools", "history")
Run = Callable[[int], Awaitable[Any]]
HISTORY: dict[str, Run] = {}
"""Each asks a server with the dialogue `BEFORE` and gives the answer."""


def brings_history(client: str) -> Callable[[Run], Run]:
    def note(run: Run) -> Run:
        HISTORY[client] = run
        return run

    return note


def messages() -> list[Any]:
    return [{"role": role, "content": text} for role, text in BEFORE]


@brings_history("`openai`, over HTTP (python)")
async def openai_over_http(port: int) -> Any:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
    return (await client.responses.create(model="any", input=messages())).output_text


@brings_history("OpenAI Agents SDK, in text (python)")
async def agents_in_text(port: int) -> Any:
    agents = pytest.importorskip("agents")
    from openai import AsyncOpenAI

    agents.set_default_openai_client(AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused"))
    agents.set_tracing_disabled(True)
    first = await agents.Runner.run(agents.Agent(name="Guide", model="any"), BEFORE[0][1])
    asked = [*first.to_input_list(), {"role": "user", "content": BEFORE[2][1]}]
    return (await agents.Runner.run(agents.Agent(name="Guide", model="any"), asked)).final_output


@brings_history("pydantic-ai (python)")
async def pydantic_ai(port: int) -> Any:
    pytest.importorskip("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
    agent = Agent(OpenAIChatModel("any", provider=provider))
    first = await agent.run(BEFORE[0][1])
    return (await agent.run(BEFORE[2][1], message_history=first.all_messages())).output


@brings_history("LiteLLM (python)")
async def lite_llm(port: int) -> Any:
    litellm = pytest.importorskip("litellm")
    address = f"http://127.0.0.1:{port}/v1"
    answer = await litellm.acompletion("openai/any", messages(), api_base=address, api_key="unused")
    return answer.choices[0].message.content


@brings_history("LangChain (python)")
async def lang_chain(port: int) -> Any:
    langchain = pytest.importorskip("langchain_openai")
    chat = langchain.ChatOpenAI(model="any", base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
    return (await chat.ainvoke(BEFORE)).content


@pytest.mark.parametrize("client", HISTORY)
async def test_a_dialogue_that_is_brought_along_is_answered_at_its_end(client: str) -> None:
    """The scripted instance answers the second message of a user with its second reply."""
    async with serving(scripted_server(FIRST, SECOND)) as port, asyncio.timeout(60):
        assert await HISTORY[client](port) == SECOND.text


def told(server: Server) -> list[tuple[str, str | None]]:
    """The dialogue before the latest query."""
    assert server.parts is not None
    instances = [one for one in server.parts.pool.instances if isinstance(one, ScriptedInstance)]
    queries = [query for one in instances for query in one.queries]
    kinds = {UserMessage: "user", AssistantMessage: "assistant"}
    return [(kinds[type(message)], message.text) for message in queries[-1].history if type(message) in kinds]


async def test_the_official_client_brings_a_dialogue_into_a_session() -> None:
    from openai import AsyncOpenAI

    async with serving(server := scripted_server(SHORT, instances=1)) as port:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
        async with client.realtime.connect(model="any") as connection:
            for role, text in BEFORE:
                kind = "output_text" if role == "assistant" else "input_text"
                item: Any = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
                await connection.conversation.item.create(item=item)
            await connection.response.create()
            await until(connection, "response.done")
    assert told(server)[:2] == BEFORE[:2]


async def test_the_official_client_is_interrupted_by_speech() -> None:
    from openai import AsyncOpenAI

    async with serving(scripted_server(LONG, SHORT)) as port:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
        async with client.realtime.connect(model="any") as connection:
            await connection.conversation.item.create(item=text_item("tell me"))
            await connection.response.create()
            await until(connection, "response.output_audio.delta")
            await connection.input_audio_buffer.append(audio=base64.b64encode(speech()).decode())
            cut = await until(connection, "response.done")
            assert (cut.response.status, cut.response.status_details.reason) == ("cancelled", "turn_detected")
            answer = await until(connection, "response.done")
            assert answer.response.output[0].content[0].transcript == SHORT.text


def live_kit(port: int) -> Any:
    plugin = pytest.importorskip("livekit.plugins.openai")
    return plugin.realtime.RealtimeModel(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", model="any"
    ).session()


async def said(generation: Any) -> str:
    return "".join([piece async for message in generation.message_stream async for piece in message.text_stream])


async def test_livekit_brings_a_dialogue_into_a_session() -> None:
    async with serving(server := scripted_server(SHORT, instances=1)) as port, asyncio.timeout(60):
        session = live_kit(port)
        from livekit.agents import llm

        context = llm.ChatContext.empty()
        for role, text in BEFORE:
            context.add_message(role=role, content=text)
        await session.update_chat_ctx(context)
        assert await said(await session.generate_reply()) == SHORT.text
        await session.aclose()
    assert told(server)[:2] == BEFORE[:2]


async def test_livekit_hears_the_whole_answer_to_an_interruption() -> None:
    async with serving(scripted_server(LONG, SHORT)) as port, asyncio.timeout(60):
        session = live_kit(port)
        from livekit import rtc

        generations: asyncio.Queue[Any] = asyncio.Queue()
        errors: list[Any] = []
        session.on("generation_created", generations.put_nowait)
        session.on("error", errors.append)
        session.on("input_speech_started", lambda _: session.interrupt())
        sound = speech()
        session.push_audio(rtc.AudioFrame(sound, RATE, 1, len(sound) // 2))
        first = asyncio.create_task(said(await generations.get()))
        await asyncio.sleep(1)
        session.push_audio(rtc.AudioFrame(sound, RATE, 1, len(sound) // 2))
        assert await said(await generations.get()) == SHORT.text
        assert LONG.text.startswith((await first).strip()[:20])
        assert errors == []
        await session.aclose()


# ── the table of docs/clients.md ───────────────────────────────────────────────────────


def table() -> str:
    """What the tests of this file, of `test_stock_clients.py` and the examples show, as Markdown."""
    lines = [f"| client | {' | '.join(COLUMNS)} |", f"|---{'|---' * len(COLUMNS)}|"]
    for client in clients():
        cells = [
            "yes",
            "yes" if client in INTERRUPTED else "–" if client not in SPOKEN else "not tried",
            "not tried",
            "yes" if client in HISTORY or client in SPOKEN_HISTORY else "not tried",
        ]
        lines.append(f"| {client} | {' | '.join(cells)} |")
    return "\n".join(lines)


def clients() -> list[str]:
    return [*(f"{example.title} ({example.language})" for example in examples()), "pipecat (python)"]


INTERRUPTED = {
    "`openai`, the Realtime API (python)": test_the_official_client_is_interrupted_by_speech,
    "OpenAI Agents SDK, spoken (python)": agents_interrupted,
    "LiveKit Agents (python)": test_livekit_hears_the_whole_answer_to_an_interruption,
}
SPOKEN_HISTORY = {
    "`openai`, the Realtime API (python)": test_the_official_client_brings_a_dialogue_into_a_session,
    "LiveKit Agents (python)": test_livekit_brings_a_dialogue_into_a_session,
}
SPOKEN = {
    *INTERRUPTED,
    "`openai`, the Realtime API (js)",
    "`@openai/agents` (js)",
    "`@mastra/voice-openai-realtime` (js)",
    "pipecat (python)",
}
"""Those that speak; nobody interrupts the others."""


def test_the_page_has_the_table_that_the_tests_make() -> None:
    assert {*INTERRUPTED, *SPOKEN_HISTORY, *HISTORY, *SPOKEN} <= {*clients()}
    assert table() in PAGE, table()
