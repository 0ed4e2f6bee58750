"""People who talk for long are heard whole, with the real default models. Runs in real time."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
from openai import AsyncOpenAI

from tests.support.hearing import words
from tests.support.leaving import nothing_leaves_the_machine
from tests.support.paths import DATA
from tests.support.served import served
from vita_duplex.engine.audio import Samples
from vita_duplex.server.audio.formats import encode_pcm16

pytestmark = [pytest.mark.real, pytest.mark.alone]

RATE = 16_000
BAR = 0.29
"""The ASR mistakes 0.26 of the words when it hears all sentences; the shortest of them is 0.04 of a monologue."""
FORMAT = {"type": "audio/pcm", "rate": RATE}
COMPLETED = "conversation.item.input_audio_transcription.completed"
SENTENCES = {
    "sense-0870": "and mister john dashwood had then leisure to consider how much there might be prudently "
    "in his power to do for them",
    "sense-0880": "he was not an ill disposed young man",
    "sense-0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "sense-0920": "had he married a more amiable woman he might have been made still more respectable than he was",
    "sense-0930": "he might even have been made amiable himself",
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with nothing_leaves_the_machine(), served("cpu") as port:
        yield port


def monologue(seconds: float, pause_s: float) -> tuple[Samples, str]:
    """Sentences with pauses, at least so long, and their words."""
    parts: list[Samples] = []
    said: list[str] = []
    while sum(map(len, parts)) < seconds * RATE:
        name = list(SENTENCES)[len(said) % len(SENTENCES)]
        parts += [soundfile.read(DATA / f"{name}.flac", dtype="float32")[0], np.zeros(int(pause_s * RATE), np.float32)]
        said.append(SENTENCES[name])
    return np.concatenate(parts), " ".join(said)


async def send(connection: Any, samples: Samples, *, at_once: bool = False) -> None:
    """In the pace of speech, or all in one append."""
    step = len(samples) if at_once else RATE // 10
    for start in range(0, len(samples), step):
        data = encode_pcm16(samples[start : start + step])
        await connection.input_audio_buffer.append(audio=base64.b64encode(data).decode())
        await asyncio.sleep(0 if at_once else step / RATE)


async def collect(connection: Any, enough: int) -> str:
    """The words that were written down, from the moment when there are enough of them for three seconds more."""
    heard = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(240) as waiting:
            async for event in connection:
                if event.type == COMPLETED:
                    heard = words(f"{heard} {event.transcript}")
                    if len(heard.split()) >= enough:
                        waiting.reschedule(asyncio.get_running_loop().time() + 3)
    return heard


async def hear(port: int, samples: Samples, said: str, session: Any, *, at_once: bool, commits: bool = False) -> float:
    """The share of words that were not heard right."""
    async with (
        AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused") as client,
        client.realtime.connect(model="smollm2") as connection,
    ):
        await connection.session.update(session=session)
        collecting = asyncio.create_task(collect(connection, len(said.split()) * 3 // 4))
        await send(connection, samples, at_once=at_once)
        if commits:
            await connection.input_audio_buffer.commit()
            await connection.response.create()
        else:
            await send(connection, np.zeros(3 * RATE, np.float32))
        return float(jiwer.wer(said, await collecting))


EVERYTHING = {"type": "realtime", "audio": {"input": {"format": FORMAT}}, "vita": {"verdict_threshold": 0}}
WRITTEN = {"type": "transcription", "audio": {"input": {"format": FORMAT}}}


@pytest.mark.parametrize("session", [EVERYTHING, WRITTEN], ids=["conversation", "transcription"])
def test_a_monologue_with_pauses_is_heard_whole(port: int, session: Any) -> None:
    samples, said = monologue(75, pause_s=1.0)
    assert asyncio.run(hear(port, samples, said, session, at_once=False)) <= BAR


def test_a_long_push_to_talk_is_heard_whole(port: int) -> None:
    samples, said = monologue(45, pause_s=0.6)
    session = {"type": "realtime", "audio": {"input": {"format": FORMAT, "turn_detection": None}}}
    assert asyncio.run(hear(port, samples, said, session, at_once=True, commits=True)) <= BAR


def test_speech_in_one_append_is_heard_whole(port: int) -> None:
    samples, said = monologue(20, pause_s=0.3)
    assert asyncio.run(hear(port, samples, said, EVERYTHING, at_once=True)) <= BAR
