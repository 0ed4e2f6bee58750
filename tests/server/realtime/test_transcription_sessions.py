"""Sessions that write down what is said and answer nothing, over an in-process WebSocket on virtual time."""

import asyncio
import base64
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.ports import PartFailed, Transcript
from vita_duplex.server.audio.formats import pcm

COMPLETED = "conversation.item.input_audio_transcription.completed"
UNTOLD = ScriptedReply(transcript="never judged", text="never said")
LISTEN: Json = {"type": "session.update", "session": {"type": "transcription"}}
reference = TypeAdapter[Any](RealtimeServerEvent)


class Ears:
    """An ASR that says how long the utterance was; one beyond three seconds it cannot hear."""

    def __init__(self) -> None:
        self.languages: list[str | None] = []

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        await asyncio.sleep(0.3)
        self.languages.append(language)
        if len(samples) > 48_000:
            raise PartFailed("asr", "too long for these ears")
        return Transcript(f"{len(samples) / 16_000:.0f} s of words")


def listening(query: str = "", ears: Ears | None = None) -> AbstractAsyncContextManager[Socket]:
    server = scripted_server(UNTOLD)
    assert server.parts
    server.parts = replace(server.parts, transcriber=ears or Ears())
    return connected(server, query)


def answers(socket: Socket) -> list[str]:
    return [kind for kind in socket.kinds() if kind.startswith("response.")]


@pytest.mark.parametrize("query", ["intent=transcription&model=gpt-4o-transcribe", ""])
def test_what_is_said_is_written_down_and_not_answered(query: str) -> None:
    async def script() -> None:
        async with listening(query) as socket:
            if not query:
                socket.put(LISTEN)
            await socket.speak()
            words = await socket.until(COMPLETED)
            assert (words["transcript"], words["item_id"]) == ("1 s of words", socket.item("user", 1))
            await socket.speak(1.5)
            assert (await socket.until(COMPLETED, 2))["transcript"] == "2 s of words"
            await asyncio.sleep(10)
            kinds = [kind for kind in socket.kinds() if not kind.startswith("session.")]
            assert kinds == 2 * [
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
                COMPLETED,
            ]
            for event in socket.events:
                reference.validate_python(event)

    run(script())


def test_the_session_shows_what_it_is() -> None:
    async def script() -> None:
        async with listening("intent=transcription") as socket:
            transcription = {"model": "gpt-4o-transcribe", "language": "de"}
            detection = {"type": "server_vad", "silence_duration_ms": 300}
            audio = {"input": {"transcription": transcription, "turn_detection": detection}}
            socket.put({"type": "session.update", "session": {"type": "transcription", "audio": audio}})
            session = (await socket.until("session.updated"))["session"]
            assert (session["type"], session["object"]) == ("transcription", "realtime.transcription_session")
            assert session["audio"]["input"]["transcription"] == transcription
            assert "create_response" not in session["audio"]["input"]["turn_detection"]
            assert socket.all("session.created")[0]["session"]["type"] == "transcription"

    run(script())


def test_a_commit_is_written_down_with_the_language_that_was_said() -> None:
    async def script() -> None:
        ears = Ears()
        async with listening(ears=ears) as socket:
            audio = {"input": {"turn_detection": None, "transcription": {"language": "zh-CN"}}}
            socket.put({"type": "session.update", "session": {"type": "transcription", "audio": audio}})
            for seconds in (2, 4):
                sound = pcm(24_000).encode(np.full(seconds * 24_000, 0.2, np.float32))
                socket.put({"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()})
                socket.put({"type": "input_audio_buffer.commit"})
            assert (await socket.until(COMPLETED))["transcript"] == "2 s of words"
            failed = await socket.until("conversation.item.input_audio_transcription.failed")
            assert failed["error"]["message"] == "too long for these ears"
            assert ears.languages == ["zh", "zh"]
            assert answers(socket) == []

    run(script())


def test_nothing_can_be_asked_of_a_session_that_only_listens() -> None:
    async def script() -> None:
        async with listening("intent=transcription") as socket:
            part = {"type": "input_text", "text": "hello?"}
            item = {"type": "message", "role": "user", "content": [part]}
            socket.put({"type": "conversation.item.create", "event_id": "a", "item": item})
            socket.put({"type": "response.create", "event_id": "b"})
            await socket.until("error", 2)
            told = [(event["error"]["code"], event["error"]["event_id"]) for event in socket.all("error")]
            assert told == [("transcription_session", "a"), ("transcription_session", "b")]
            await socket.speak()
            await socket.until(COMPLETED)

    run(script())


def test_without_an_asr_it_is_refused_and_no_conversation_begins_instead() -> None:
    async def script() -> None:
        async with connected(scripted_server(UNTOLD), "intent=transcription") as socket:
            refused = await socket.until("error")
            assert refused["error"]["code"] == "transcription_not_supported"
            assert socket.kinds() == ["error"]
        async with connected(scripted_server(UNTOLD), "") as socket:
            socket.put(LISTEN)
            error = (await socket.until("error"))["error"]
            assert (error["code"], error["param"]) == ("transcription_not_supported", "session.type")
            assert socket.all("session.updated") == []

    run(script())
