"""Clients that were made for OpenAI, unmodified, against this server over real sockets.

The official client comes with the `dev` extra. The OpenAI Agents SDK and pipecat are in tests/client/requirements.lock;
`make stock` installs them beside and runs this file.
"""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI
from PIL import Image

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.audio.formats import encode_pcm16

pytestmark = pytest.mark.real

SHORT = ScriptedReply(transcript="what is it", text="It is short.", verdict_s=0.0, token_s=0.001)
LONG = ScriptedReply(transcript="tell me", text=" ".join(f"word{n}" for n in range(60)) + ".", token_s=0.001)
RATE = 24_000


def speech(seconds: float = 0.6) -> bytes:
    """Something loud, then enough silence to end it: PCM16 at 24 kHz."""
    loud = 0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * RATE)) / RATE)
    return encode_pcm16(np.concatenate([loud, np.zeros(int(0.8 * RATE))]).astype(np.float32))


def text_item(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


# ── the official client ────────────────────────────────────────────────────────────────


@asynccontextmanager
async def official(*replies: ScriptedReply) -> AsyncIterator[Any]:
    async with serving(scripted_server(*replies)) as port:
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused")
        async with client.realtime.connect(model="scripted") as connection:
            yield connection


async def until(connection: Any, kind: str) -> Any:
    async with asyncio.timeout(20):
        async for event in connection:
            if event.type == kind:
                return event
    raise AssertionError(f"no {kind}")


async def test_the_official_client_speaks_and_is_answered() -> None:
    async with official(SHORT) as connection:
        await connection.session.update(session={"type": "realtime", "instructions": "Be brief."})
        assert (await until(connection, "session.updated")).session.instructions == "Be brief."
        await connection.input_audio_buffer.append(audio=base64.b64encode(speech()).decode())
        heard = await until(connection, "conversation.item.input_audio_transcription.completed")
        assert heard.transcript == SHORT.transcript
        done = await until(connection, "response.done")
        assert done.response.status == "completed"
        assert done.response.output[0].content[0].transcript == SHORT.text
        assert done.response.usage.output_tokens == 3


async def test_the_official_client_types_retrieves_and_deletes() -> None:
    async with official(SHORT) as connection:
        await connection.conversation.item.create(item=text_item("what is it?"))
        await connection.response.create(response={"output_modalities": ["text"]})
        done = await until(connection, "response.done")
        assert done.response.output[0].content[0].text == SHORT.text
        item_id = done.response.output[0].id
        await connection.conversation.item.retrieve(item_id=item_id)
        assert (await until(connection, "conversation.item.retrieved")).item.id == item_id
        await connection.conversation.item.delete(item_id=item_id)
        assert (await until(connection, "conversation.item.deleted")).item_id == item_id


async def test_the_official_client_cancels_and_truncates() -> None:
    async with official(LONG) as connection:
        for stop in ("cancel", "truncate"):
            await connection.conversation.item.create(item=text_item("tell me"))
            await connection.response.create()
            delta = await until(connection, "response.output_audio.delta")
            if stop == "cancel":
                await connection.response.cancel()
            else:
                await connection.conversation.item.truncate(item_id=delta.item_id, content_index=0, audio_end_ms=20)
            done = await until(connection, "response.done")
            assert done.response.status_details.reason == "client_cancelled"


async def test_the_official_client_pushes_to_talk() -> None:
    async with official(SHORT) as connection:
        await connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        await connection.input_audio_buffer.append(audio=base64.b64encode(speech()).decode())
        await connection.input_audio_buffer.commit()
        await until(connection, "input_audio_buffer.committed")
        await connection.response.create()
        assert (await until(connection, "response.done")).response.status == "completed"


async def test_the_official_client_shows_a_picture() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (0, 90, 0)).save(picture, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(picture.getvalue()).decode()
    content = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "What is this?"}]
    async with official(SHORT) as connection:
        await connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        await connection.response.create()
        assert (await until(connection, "response.done")).response.status == "completed"


async def test_the_official_client_is_told_its_errors() -> None:
    async with official(SHORT) as connection:
        session = {"type": "realtime", "prompt": {"id": "pmpt_1"}}
        await connection.session.update(session=session, event_id="mine")
        error = (await until(connection, "error")).error
        assert (error.type, error.code, error.event_id) == ("invalid_request_error", "unsupported_value", "mine")
        await connection.response.cancel()
        assert (await until(connection, "error")).error.code == "response_cancel_not_active"
        await connection.conversation.item.create(item=text_item("still there?"))
        await connection.response.create()
        assert (await until(connection, "response.done")).response.status == "completed"


# ── the OpenAI Agents SDK ──────────────────────────────────────────────────────────────


@asynccontextmanager
async def agent(*replies: ScriptedReply, **settings: Any) -> AsyncIterator[Any]:
    realtime = pytest.importorskip("agents.realtime", reason="make stock installs the Agents SDK")
    async with serving(scripted_server(*replies)) as port:
        runner = realtime.RealtimeRunner(realtime.RealtimeAgent(name="Guide", instructions="Be brief."))
        config = {
            "url": f"ws://127.0.0.1:{port}/v1/realtime?model=scripted",
            "api_key": "unused",
            "initial_model_settings": settings,
        }
        async with await runner.run(model_config=config) as session:
            yield session


async def agent_until(session: Any, kind: str) -> list[Any]:
    """The events up to the first of a kind; an error on the way fails."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        async for event in session:
            assert event.type != "error", event
            events.append(event)
            if event.type == kind:
                return events
    raise AssertionError(f"no {kind}")


def spoken(events: list[Any]) -> int:
    return sum(len(event.audio.data) for event in events if event.type == "audio")


async def test_the_agents_sdk_types_and_hears_the_whole_answer() -> None:
    async with agent(SHORT) as session:
        await session.send_message("what is it?")
        events = await agent_until(session, "agent_end")
        assert spoken(events) == pytest.approx(2 * RATE * len(SHORT.text) / 15, rel=0.01)
        assert [getattr(item, "role", None) for item in session._history] == ["user", "assistant"]


async def test_the_agents_sdk_speaks_with_its_default_semantic_vad() -> None:
    async with agent(SHORT) as session:
        await session.send_audio(speech())
        assert spoken(await agent_until(session, "agent_end")) > 0


async def test_the_agents_sdk_pushes_to_talk() -> None:
    async with agent(SHORT, audio={"input": {"turn_detection": None}}) as session:
        await session.send_audio(speech(), commit=True)
        await session.send_message("and this")  # its way to ask for a response
        assert spoken(await agent_until(session, "agent_end")) > 0


async def test_the_agents_sdk_interrupts_by_truncating() -> None:
    async with agent(LONG, SHORT) as session:
        await session.send_message("tell me")
        await agent_until(session, "audio")
        await session.interrupt()
        await agent_until(session, "agent_end")
        await session.send_message("what is it?")
        await agent_until(session, "agent_end")


async def test_the_agents_sdk_is_interrupted_by_speech() -> None:
    async with agent(LONG, SHORT) as session:
        await session.send_message("tell me")
        await agent_until(session, "audio")
        await session.send_audio(speech())
        await agent_until(session, "audio_interrupted")
        await agent_until(session, "agent_end")
        await agent_until(session, "agent_end")


# ── pipecat ────────────────────────────────────────────────────────────────────────────


async def test_a_pipecat_pipeline_speaks_and_hears_the_answer() -> None:
    pytest.importorskip("pipecat.services.openai.realtime.llm", reason="make stock installs pipecat")
    from pipecat.frames.frames import EndFrame, InputAudioRawFrame, TTSAudioRawFrame, TTSStoppedFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineParams, PipelineTask
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService

    heard = bytearray()
    finished = asyncio.Event()

    class Loudspeaker(FrameProcessor):
        async def process_frame(self, frame: Any, direction: Any) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, TTSAudioRawFrame):
                heard.extend(frame.audio)
            if isinstance(frame, TTSStoppedFrame):
                finished.set()
            await self.push_frame(frame, direction)

    async with serving(scripted_server(SHORT)) as port:
        service = OpenAIRealtimeLLMService(api_key="unused", base_url=f"ws://127.0.0.1:{port}/v1/realtime")
        parameters = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
        task = PipelineTask(Pipeline([service, Loudspeaker()]), params=parameters)
        running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
        await asyncio.sleep(1)
        data = speech()
        for start in range(0, len(data), RATE // 25):
            chunk = data[start : start + RATE // 25]
            await task.queue_frame(InputAudioRawFrame(audio=chunk, sample_rate=RATE, num_channels=1))
            await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            await finished.wait()
        await task.queue_frame(EndFrame())
        with suppress(asyncio.CancelledError):
            await running
    assert len(heard) == pytest.approx(2 * RATE * len(SHORT.text) / 15, rel=0.01)
