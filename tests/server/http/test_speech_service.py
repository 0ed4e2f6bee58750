"""`/v1/audio/speech`, asked by OpenAI's own client."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from openai import AsyncOpenAI

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed, Synthesiser
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.audio.encoders import encoder
from vita_duplex.server.audio.formats import decode_pcm16
from vita_duplex.server.http.app import create_app
from vita_duplex.server.server import Server
from vita_duplex.tts.voices.queue import VoiceQueue

TEXT = "Well, this is the first sentence. And here, at the end, is a second one."


@asynccontextmanager
async def client(server: Server, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(server)))
    address = "http://127.0.0.1:8000/v1"
    async with AsyncOpenAI(base_url=address, api_key=key, max_retries=0, http_client=http) as openai_client:
        yield openai_client


async def speak(server: Server, key: str = "none", **wishes: Any) -> tuple[str, bytes]:
    """The media type and the file."""
    async with client(server, key) as asked:
        answer = await asked.audio.speech.create(**{"model": "tts-1", "voice": "alloy", "input": TEXT} | wishes)
        return answer.response.headers["content-type"], answer.content


async def refused(server: Server, key: str = "none", **wishes: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as error:
        await speak(server, key, **wishes)
    return error.value


def with_voice(voice: Synthesiser, **config: Any) -> Server:
    server = scripted_server(**config)
    assert server.parts is not None
    server.parts = replace(server.parts, voices={"tone": voice}, voice_queue=VoiceQueue(1))
    return server


class ToneVoice:
    """A sine of a second for each piece, at a rate of its own, in portions."""

    rate = 16_000

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        tone = (0.5 * np.sin(2 * np.pi * 440 / self.rate * np.arange(self.rate))).astype(np.float32)
        for portion in np.array_split(tone, 7):
            yield portion


class BreakingVoice:
    """Says a second, then fails."""

    rate = 24_000

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        for _ in range(self.seconds):
            yield np.zeros(self.rate, np.float32)
        raise PartFailed("tts", "it broke")


class EndlessVoice:
    rate = 24_000

    def __init__(self) -> None:
        self.closed = False

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        try:
            while True:
                yield np.zeros(self.rate, np.float32)
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def test_pcm_is_the_voice_at_24_khz() -> None:
    kind, data = await speak(with_voice(ToneVoice()), response_format="pcm", input="One sentence.")
    samples = decode_pcm16(data)
    assert kind == "audio/pcm"
    assert len(samples) == 24_000
    wanted = 0.5 * np.sin(2 * np.pi * 440 / 24_000 * np.arange(24_000))
    assert np.abs(samples - wanted)[200:-200].max() < 1e-3


@pytest.mark.parametrize(
    ("response_format", "kind"),
    [("mp3", "audio/mpeg"), ("opus", "audio/ogg"), ("flac", "audio/flac"), ("wav", "audio/wav")],
)
async def test_each_format_can_be_read_and_has_all_of_the_sound(response_format: str, kind: str) -> None:
    told, data = await speak(with_voice(ToneVoice()), response_format=response_format, input="One. Two.")
    assert told == kind
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 24_000
    assert len(samples) == pytest.approx(48_000, abs=2400)  # MP3 has a delay at both ends
    assert np.sqrt(np.mean(samples[2400:-2400] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


async def test_as_events_it_is_the_same_file() -> None:
    wishes = {"response_format": "wav", "input": "One. Two."}
    _, whole = await speak(with_voice(ToneVoice()), **wishes)
    kind, events = await speak(with_voice(ToneVoice()), **wishes, stream_format="sse")
    assert kind == "text/event-stream; charset=utf-8"
    *portions, done, end = [line.removeprefix("data: ") for line in events.decode().splitlines() if line[:4] == "data"]
    assert b"".join(base64.b64decode(json.loads(portion)["audio"]) for portion in portions) == whole
    assert len(portions) > 2
    assert (json.loads(done)["type"], end) == ("speech.audio.done", "[DONE]")


async def test_a_voice_that_breaks_in_the_middle_is_an_event() -> None:
    _, events = await speak(with_voice(BreakingVoice(1)), response_format="pcm", stream_format="sse")
    assert "part_failed" in events.decode()
    assert "speech.audio.done" not in events.decode()


async def test_without_a_format_it_is_mp3_as_openais() -> None:
    assert (await speak(scripted_server()))[0] == "audio/mpeg"


@pytest.mark.parametrize("response_format", ["mp3", "opus", "wav", "pcm"])
def test_a_file_comes_out_while_it_is_written(response_format: str) -> None:
    file = encoder(response_format, 24_000)
    noise = np.random.default_rng(1).normal(0, 0.1, 24_000).astype(np.float32)
    portions = [file.push(noise) for _ in range(4)]
    assert all(portions), [len(portion) for portion in portions]


async def test_the_first_sound_comes_before_the_last_is_made() -> None:
    server = with_voice(voice := EndlessVoice())
    async with serving(server) as port, httpx.AsyncClient() as http:
        address = f"http://127.0.0.1:{port}/v1/audio/speech"
        async with http.stream("POST", address, json={"input": "go on", "response_format": "pcm"}) as answer:
            assert await anext(answer.aiter_bytes())
            assert not voice.closed
        async with asyncio.timeout(60):
            while not voice.closed or server.sessions:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"input": "!!! ..."}, "input"),
        ({"response_format": "aac"}, "response_format"),
        ({"speed": 1.5}, "speed"),
        ({"speed": 0.1}, "speed"),
        ({"instructions": "whisper"}, "instructions"),
        ({"stream_format": "events"}, "stream_format"),
        ({"voice": "nobody"}, "voice"),
        ({"voice": {"id": "voice_1234"}}, "voice"),
        ({"voice": {"name": "alloy"}}, "voice"),
        ({"voice": 5}, "voice"),
        ({"voice": "x" * 100_000}, "voice"),
    ],
    ids=str,
)
async def test_what_the_voice_cannot_do_is_refused_by_name(wishes: Any, param: str) -> None:
    error = await refused(scripted_server(), **wishes)
    assert (error.status_code, error.param, error.type) == (400, param, "invalid_request_error")


async def test_the_voices_are_listed_and_the_one_asked_for_speaks() -> None:
    server = scripted_server(tts={"kind": "humming"})
    assert server.parts is not None
    server.parts = replace(server.parts, voices={**server.parts.voices, "low": ToneVoice()})
    async with client(server) as asked:
        listed = await asked.get("/audio/voices", cast_to=httpx.Response)
        assert listed.json() == {"voices": ["humming", "low"], "default": "humming"}
    tone = 24_000
    for voice in ("low", {"id": "low"}):
        assert len((await speak(server, response_format="pcm", input="One sentence.", voice=voice))[1]) == 2 * tone
    for voice in ("humming", "alloy", "nova"):
        assert len((await speak(server, response_format="pcm", input="One sentence.", voice=voice))[1]) != 2 * tone
    error = await refused(server, voice="nobody")
    assert (error.code, error.body["message"]) == (  # type: ignore[index]
        "invalid_value", "There is no such voice; choose one of humming, low.",
    )  # fmt: skip


async def test_the_list_of_voices_wants_a_key_and_a_server_that_is_ready() -> None:
    key = new_key()
    server = scripted_server(access={"keys": {"laptop": hashed(key)}})
    async with client(server, key) as asked:
        assert (await asked.get("/audio/voices", cast_to=httpx.Response)).json()["default"] == "hibari"
    async with client(server) as asked:
        with pytest.raises(openai.AuthenticationError):
            await asked.get("/audio/voices", cast_to=httpx.Response)
    server.parts = None
    async with client(server, key) as asked:
        with pytest.raises(openai.InternalServerError, match="not ready yet"):
            await asked.get("/audio/voices", cast_to=httpx.Response)


async def test_a_voice_that_fails_at_once_is_told() -> None:
    server = with_voice(BreakingVoice(0))
    error = await refused(server)
    assert (error.status_code, error.code, error.type) == (503, "part_failed", "server_error")
    assert server.sessions == 0


async def test_a_voice_that_fails_later_breaks_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    server = with_voice(BreakingVoice(1))
    async with serving(server) as port, httpx.AsyncClient() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(f"http://127.0.0.1:{port}/v1/audio/speech", json={"input": TEXT})
    assert server.sessions == 0
    assert not [record for record in caplog.records if record.exc_info], "no bug of ours"
    assert 'vita_duplex_requests_total{path="/v1/audio/speech",status="failed"} 1.0' in server.metrics.text().decode()


async def test_who_does_not_read_loses_the_place_when_a_session_would_end() -> None:
    server = with_voice(voice := EndlessVoice(), limits={"session_s": 0.3})
    async with serving(server) as port, httpx.AsyncClient() as http:
        body = {"input": "go on", "response_format": "pcm"}
        async with http.stream("POST", f"http://127.0.0.1:{port}/v1/audio/speech", json=body):
            async with asyncio.timeout(60):
                while not voice.closed or server.sessions:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.01)


async def test_keys_and_limits_are_those_of_sessions() -> None:
    key = new_key()
    server = scripted_server(access={"keys": {"laptop": hashed(key)}})
    assert (await refused(server)).status_code == 401
    assert (await speak(server, key))[1]
    server = scripted_server(server={"max_sessions": 1})
    server.admission.ask(None, 0, may_wait=False)
    assert (await refused(server)).code == "session_limit_reached"
    server.drain.begin(0)
    assert (await refused(server)).code == "server_draining"


async def test_a_text_without_a_place_is_not_read_out() -> None:
    """What reads out is one process for all sessions."""
    read: list[str] = []

    async def reading(text: str, language: str) -> str:
        read.append(text)
        return text

    server = scripted_server(server={"max_sessions": 1})
    assert server.parts is not None
    server.parts = replace(server.parts, normaliser=reading)  # type: ignore[arg-type]
    ticket = server.admission.ask(None, 0, may_wait=False)
    assert (await refused(server, input="It costs $9.")).code == "session_limit_reached"
    assert read == []
    server.leave(ticket)  # type: ignore[arg-type]
    assert (await speak(server, input="It costs $9."))[1]
    assert read == ["It costs $9."]
    assert server.admission.running == 0
