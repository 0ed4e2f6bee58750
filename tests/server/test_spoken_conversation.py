"""The main job, with the real default models: human speech in, spoken answers out. Runs in real time."""

import asyncio
import base64
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import soxr
from openai import AsyncOpenAI, BadRequestError, OpenAI

from tests.support import sounds
from tests.support.hearing import heard_words, words
from tests.support.leaving import nothing_leaves_the_machine
from tests.support.paths import DATA
from tests.support.served import served
from vita_duplex.client.connection import open_session
from vita_duplex.client.conversation import Conversation, Witness
from vita_duplex.client.recording import read_recording, to_pcm
from vita_duplex.client.talk import FRAME, converse

pytestmark = [pytest.mark.real, pytest.mark.alone]

QUESTION, SECOND = DATA / "goforward.flac", DATA / "something.flac"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with nothing_leaves_the_machine(), served("cpu") as port:
        yield port


def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/v1/realtime"


def talk(port: int, question: Path, second: Path | None = None, at_s: float = 1.0) -> Conversation:
    recordings = [read_recording(path) for path in (question, second) if path]
    return asyncio.run(converse(url(port), *recordings, at_s=at_s, limit_s=120))


def http(port: int) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0, timeout=120)


def test_a_chat_is_answered_in_text_whether_it_is_typed_or_spoken(port: int) -> None:
    spoken = base64.b64encode(QUESTION.read_bytes()).decode()
    with http(port) as client:

        def ask(content: Any, **more: Any) -> Any:
            messages = [{"role": "user", "content": content}]
            return client.chat.completions.create(model="any", messages=messages, **more)

        typed = ask("What is the capital of France?", temperature=0)
        assert "Paris" in typed.choices[0].message.content
        assert typed.usage.prompt_tokens > 10
        assert typed.usage.total_tokens == typed.usage.prompt_tokens + typed.usage.completion_tokens
        assert typed.model_extra["vita"]["state"] == "<3>"
        heard = ask([{"type": "input_audio", "input_audio": {"data": spoken, "format": "wav"}}], max_tokens=8)
        assert words(heard.model_extra["vita"]["transcript"]) == "go forward ten meters"
        assert heard.model_extra["vita"]["p1"] > 0.5
        assert heard.usage.completion_tokens <= 8
        assert heard.choices[0].message.content
        with pytest.raises(BadRequestError, match="cannot see"):
            ask([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}])
        with pytest.raises(BadRequestError, match="tokens; the model reads"):
            ask("word " * 5000)
        assert ask("Hello", max_tokens=1).choices[0].finish_reason == "length"


def test_the_voice_is_a_service_whose_sound_is_its_text(port: int) -> None:
    with http(port) as client:
        answer = client.audio.speech.create(model="tts-1", voice="alloy", input="The old lighthouse works.")
        samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert jiwer.wer("the old lighthouse works", heard_words(samples, rate)) <= 0.25


@pytest.mark.smoke
def test_a_human_question_gets_a_spoken_answer_whose_sound_is_its_text(port: int) -> None:
    conversation = talk(port, QUESTION)
    assert [verdict.accepted for verdict in conversation.verdicts] == [True]
    assert jiwer.wer("go forward ten meters", words(conversation.transcripts[0])) <= 0.2
    (reply,) = conversation.replies.values()
    assert reply.status == "completed"
    assert len(words(reply.text).split()) >= 2
    audio = np.concatenate(reply.pieces).astype(np.float32) / 32768
    assert jiwer.wer(words(reply.text), heard_words(audio, 24_000)) <= 0.2
    assert conversation.stale_samples == 0
    assert conversation.swaps == 0


def test_a_second_human_question_stops_the_answer_and_is_answered_with_one_swap(port: int) -> None:
    conversation = talk(port, QUESTION, SECOND, at_s=0.3)
    assert [verdict.accepted for verdict in conversation.verdicts] == [True, True]
    assert [reply.status for reply in conversation.replies.values()] == ["cancelled", "completed"]
    assert conversation.swaps == 1
    assert conversation.stale_samples == 0
    first, second = conversation.replies.values()
    assert conversation.heard_samples(first.id) < 24_000 * 8
    assert conversation.heard_samples(second.id) > 24_000 / 2
    assert conversation.held, "it did not fall silent when the second question began"


@pytest.mark.parametrize("sound", ["silence", "click", "music", "mm-hm"])
def test_what_is_no_question_gets_no_answer(port: int, sound: str) -> None:
    made = {"silence": sounds.silence, "click": sounds.click, "music": sounds.music}
    samples = made[sound]() if sound in made else sounds.speech("Mm-hm.")

    async def play() -> Conversation:
        witness = Witness()
        async with open_session(url(port), witness) as session:
            pcm = to_pcm(np.concatenate([samples, np.zeros(16_000 * 4, np.float32)]))
            for start in range(0, len(pcm) - FRAME, FRAME):
                await session.send(pcm[start : start + FRAME])
                await session.listen_until(max(session.now(), start / 16_000))
        return witness.conversation

    conversation = asyncio.run(play())
    assert conversation.replies == {}
    judged = [verdict.accepted for verdict in conversation.verdicts]
    assert not any(judged)
    assert sound != "mm-hm" or judged == [False], "it is speech: the judge, not the detector, must turn it down"


@pytest.mark.parametrize("sound", ["mm-hm", "cough", "music", "a human reading"])
def test_what_is_no_question_lets_an_answer_go_on_to_its_end(port: int, tmp_path: Path, sound: str) -> None:
    said = tmp_path / "said.wav"
    made = {
        "mm-hm": lambda: sounds.speech("Mm-hm."),
        "cough": sounds.cough,
        "music": sounds.music,
        "a human reading": lambda: sounds.clip("sense-0930"),
    }
    soundfile.write(said, made[sound](), 16_000)
    conversation = talk(port, QUESTION, said, at_s=0.2)
    assert conversation.verdicts[0].accepted
    judged = [verdict.accepted for verdict in conversation.verdicts[1:]]
    assert not any(judged)
    assert [reply.status for reply in conversation.replies.values()] == ["completed"]
    assert conversation.swaps == 0
    (reply,) = conversation.replies.values()
    assert conversation.heard_samples(reply.id) == sum(len(piece) for piece in reply.pieces)
    if sound in ("mm-hm", "a human reading"):
        assert judged == [False]
        assert conversation.held, "it did not fall silent for speech"


@pytest.mark.smoke
def test_the_official_openai_client_has_a_spoken_conversation(port: int) -> None:
    async def converse_stock() -> list[Any]:
        client = AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", websocket_base_url=f"ws://127.0.0.1:{port}/v1"
        )
        models = [model.id async for model in client.models.list()]
        events: list[Any] = []
        async with client.realtime.connect(model=models[0]) as connection:
            await connection.session.update(
                session={"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
            )
            samples, _ = soundfile.read(QUESTION, dtype="float32")
            pcm = to_pcm(np.concatenate([soxr.resample(samples, 16_000, 24_000), np.zeros(24_000, np.float32)]))

            async def speak() -> None:
                for start in range(0, len(pcm), 480):
                    audio = base64.b64encode(pcm[start : start + 480].astype("<i2").tobytes()).decode()
                    await connection.input_audio_buffer.append(audio=audio)
                    await asyncio.sleep(0.02)

            speaking = asyncio.create_task(speak())
            async with asyncio.timeout(90):
                async for event in connection:
                    events.append(event)
                    if event.type in ("response.done", "error"):
                        break
            speaking.cancel()
            with suppress(asyncio.CancelledError):
                await speaking
        return events

    events = asyncio.run(converse_stock())
    kinds = [event.type for event in events]
    assert kinds[:2] == ["session.created", "session.updated"]
    assert kinds[-1] == "response.done"
    assert not [kind for kind in kinds if kind.startswith("vita.")]
    (heard,) = [e for e in events if e.type == "conversation.item.input_audio_transcription.completed"]
    assert jiwer.wer("go forward ten meters", words(heard.transcript)) <= 0.2
    text = "".join(e.delta for e in events if e.type == "response.output_audio_transcript.delta")
    data = b"".join(base64.b64decode(e.delta) for e in events if e.type == "response.output_audio.delta")
    audio = np.frombuffer(data, "<i2").astype(np.float32) / 32768
    assert jiwer.wer(words(text), heard_words(audio, 24_000)) <= 0.2
    assert events[-1].response.status == "completed"


def test_two_instances_hand_the_floor_to_each_other() -> None:
    with served("cpu", "--instances", "2") as port:
        conversation = talk(port, QUESTION, SECOND, at_s=0.3)
    assert [reply.status for reply in conversation.replies.values()] == ["cancelled", "completed"]
    assert [(roles.generator, roles.monitor) for roles in conversation.roles] == [("a", "b"), ("b", "a")]
    assert [record.instance for record in conversation.records if record.is_reply] == ["a", "b"]
