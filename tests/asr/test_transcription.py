"""The words of what was said to a model that hears by itself: who finds them, when, and what becomes of failures."""

import asyncio
import io
import json
import logging
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler

import jiwer
import numpy as np
import pytest

from tests.server.realtime.test_gateway import check_types, update
from tests.support import sounds
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from tests.support.voice_servers import Asked, serving
from vita_duplex.asr.local import LONGEST
from vita_duplex.asr.openai import OpenAiTranscription, OpenAiTranscriptionConfig
from vita_duplex.asr.whisper import Whisper, WhisperConfig
from vita_duplex.config import AsrConfig, Config
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.ports import Asr, PartFailed, Transcript
from vita_duplex.engine.transcripts import TRANSCRIBING_LIMIT
from vita_duplex.server.asr import load_asr

COMPLETED = "conversation.item.input_audio_transcription.completed"
FAILED = "conversation.item.input_audio_transcription.failed"
HEARING = ScriptedReply(transcript=None, text="It is short.")
NOISE = ScriptedReply(transcript=None, p1=0.1, text="never said")
TONE = (0.3 * np.sin(2 * np.pi * 200 * np.arange(INPUT_RATE) / INPUT_RATE)).astype(np.float32)


class SlowEars:
    """Hears the same in everything, after a while; fails where it is told to."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self.heard: list[tuple[float, str | None]] = []
        """Length in seconds and language of each utterance."""
        self.fails = False

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        self.heard.append((len(samples) / INPUT_RATE, language))
        await asyncio.sleep(self.seconds)
        if self.fails:
            raise PartFailed("asr", "scripted to fail")
        return Transcript("secret words")


@asynccontextmanager
async def talking(ears: Asr, *replies: ScriptedReply, **config: object) -> AsyncIterator[Socket]:
    server = scripted_server(*replies, **config)
    assert server.parts is not None
    server.parts = replace(server.parts, asr=ears)
    async with connected(server) as socket:
        yield socket
        check_types(socket)


def test_the_words_come_when_they_are_known_and_nothing_waits_for_them() -> None:
    async def script() -> None:
        ears = SlowEars()
        async with talking(ears, HEARING) as socket:
            await socket.speak()
            words = await socket.until(COMPLETED)
            assert (words["item_id"], words["transcript"]) == (socket.item("user", 1), "secret words")
            times = dict(zip(socket.kinds(), socket.times, strict=True))
            assert times[COMPLETED] - times["response.created"] > 4.9
            assert times["response.done"] < times[COMPLETED]
            socket.put({"type": "conversation.item.retrieve", "item_id": socket.item("user", 1)})
            item = (await socket.until("conversation.item.retrieved"))["item"]
            assert item["content"] == [{"type": "input_audio", "transcript": "secret words"}]
            assert ears.heard == [(pytest.approx(1.3, abs=0.4), None)]

    run(script())


def test_what_was_not_meant_for_us_is_not_transcribed(caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        ears = SlowEars(0.1)
        async with talking(ears, NOISE) as socket:
            await socket.speak()
            assert not (await socket.until("vita.verdict"))["accepted"]
            await asyncio.sleep(5)
            assert ears.heard == []
            assert "secret" not in json.dumps(socket.events)

    caplog.set_level(logging.DEBUG)
    run(script())
    assert "secret" not in caplog.text


def test_a_failure_is_told_and_the_next_words_come() -> None:
    async def script() -> None:
        ears = SlowEars(0.1)
        ears.fails = True
        async with talking(ears, HEARING) as socket:
            await socket.speak()
            failed = await socket.until(FAILED)
            assert (failed["item_id"], failed["error"]["code"]) == (socket.item("user", 1), "asr_failed")
            await socket.until("response.done")
            ears.fails = False
            await socket.speak()
            await socket.until(COMPLETED)
            assert len(socket.all(FAILED)) == 1
            assert (await socket.until("response.done", 2))["response"]["status"] == "completed"

    run(script())


@pytest.mark.parametrize("reply", [HEARING, ScriptedReply(transcript="secret words", text="It is short.")])
def test_without_transcription_there_are_no_words(reply: ScriptedReply) -> None:
    async def script() -> None:
        ears = SlowEars(0.1)
        async with talking(ears, reply) as socket:
            socket.put(update(audio={"input": {"transcription": None}}))
            updated = await socket.until("session.updated")
            assert updated["session"]["audio"]["input"]["transcription"] is None
            await socket.speak()
            await socket.until("response.done")
            assert ears.heard == []
            assert not socket.all(COMPLETED)
            (added, *_) = socket.all("conversation.item.added")
            assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]

    run(script())


def test_the_language_is_a_hint_for_the_ears_and_for_the_model() -> None:
    async def script() -> None:
        ears = SlowEars(0.1)
        server = scripted_server(HEARING)
        assert server.parts is not None
        server.parts = replace(server.parts, asr=ears)
        async with connected(server) as socket:
            socket.put(update(audio={"input": {"transcription": {"model": "whisper-1", "language": "zh_CN"}}}))
            updated = await socket.until("session.updated")
            told = updated["session"]["audio"]["input"]["transcription"]
            assert told == {"model": "whisper-1", "language": "zh_CN"}
            await socket.speak()
            await socket.until(COMPLETED)
            assert [language for _, language in ears.heard] == ["zh"]
            asked = [query for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]
            assert [query.language for query in asked] == ["zh"]
            socket.put(update(audio={"input": {"transcription": {"language": "no language"}}}))
            error = (await socket.until("error"))["error"]
            assert error["param"] == "session.audio.input.transcription.language"

    run(script())


def test_words_that_the_model_has_are_not_looked_for() -> None:
    async def script() -> None:
        ears = SlowEars(0.1)
        async with talking(ears, ScriptedReply(transcript="its own")) as socket:
            await socket.speak()
            assert (await socket.until(COMPLETED))["transcript"] == "its own"
            await asyncio.sleep(1)
            assert ears.heard == []
            assert len(socket.all(COMPLETED)) == 1

    run(script())


def test_ears_that_are_too_slow_are_not_waited_for() -> None:
    async def script() -> None:
        ears = SlowEars(1000)
        async with talking(ears, HEARING) as socket:
            for number in range(1, TRANSCRIBING_LIMIT + 3):
                await socket.speak()
                await socket.until("response.done", number)
            assert len(ears.heard) == TRANSCRIBING_LIMIT
            assert [event["item_id"] for event in socket.all(FAILED)] == [
                socket.item("user", 5),
                socket.item("user", 6),
            ]

    run(script())


def test_the_words_of_what_was_committed_come_once_it_is_asked_about() -> None:
    async def script() -> None:
        ears = SlowEars(0.1)
        async with talking(ears, HEARING) as socket:
            socket.put(update(audio={"input": {"turn_detection": None}}))
            await socket.speak()
            socket.put({"type": "input_audio_buffer.commit"})
            committed = await socket.until("input_audio_buffer.committed")
            socket.put({"type": "response.create"})
            assert (await socket.until(COMPLETED))["item_id"] == committed["item_id"]
            assert ears.heard == [(pytest.approx(1.65, abs=0.01), None)]

    run(script())


# ── a server ───────────────────────────────────────────────────────────────────────────


class TranscriptionHandler(BaseHTTPRequestHandler):
    """`POST /v1/audio/transcriptions`, as OpenAI documents it; the model says what happens."""

    asked: Asked

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        fields: Json = {"path": self.path}
        for part in BytesParser().parsebytes(head + body).get_payload():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            fields[name] = content if name == "file" else content.decode()
        self.asked.requests.append(fields)
        self.asked.headers.append(dict(self.headers))
        with wave.open(io.BytesIO(fields["file"])) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, INPUT_RATE)
            said = f" {sound.getnframes() / INPUT_RATE:g} secret seconds "
        answers = {"list": [said], "number": {"text": 3}, "none": {"words": said}}
        answer = answers.get(fields["model"], {"text": said})
        data = f"<{said}>".encode() if fields["model"] == "html" else json.dumps(answer).encode()
        if fields["model"] == "hangs":
            self.asked.left.wait(5)
        if fields["model"] == "refuses":
            data = json.dumps({"error": {"message": said, "code": "bad"}}).encode()
        self.send_response(400 if fields["model"] == "refuses" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fields["model"] == "half" else data)
        self.close_connection = fields["model"] == "half"


def heard_by(url: str, model: str = "whisper-1", key: str = "") -> OpenAiTranscription:
    config = {"url": f"{url}/v1", "model": model, "api_key": key}
    return OpenAiTranscription(OpenAiTranscriptionConfig.model_validate(config))


async def test_a_server_is_sent_a_wav_and_its_words_are_taken() -> None:
    with serving(TranscriptionHandler) as (url, asked):
        assert await heard_by(url, key="sk-1").transcribe(TONE, "zh") == Transcript("1 secret seconds")
        (wish,) = asked.requests
        file = wish.pop("file")
        assert wish == {
            "path": "/v1/audio/transcriptions", "model": "whisper-1", "response_format": "json", "language": "zh",
        }  # fmt: skip
        with wave.open(io.BytesIO(file)) as sound:
            came = np.frombuffer(sound.readframes(INPUT_RATE), "<i2") / 32767
        assert np.abs(came - TONE).max() < 1e-4
        assert asked.headers[0]["Authorization"] == "Bearer sk-1"


async def test_what_is_too_long_is_two_requests_and_silence_is_none() -> None:
    with serving(TranscriptionHandler) as (url, asked):
        ears = heard_by(url)
        tone = np.resize(TONE, 40 * INPUT_RATE)
        tone[27 * INPUT_RATE : 28 * INPUT_RATE] = 0  # a pause, where it is cut
        heard = (await ears.transcribe(tone)).text
        assert heard == "27.05 secret seconds 12.95 secret seconds"
        assert all(len(wish["file"]) <= 2 * LONGEST + 44 for wish in asked.requests)
        asked.requests.clear()
        assert (await ears.transcribe(np.zeros(INPUT_RATE, np.float32))).text == ""
        assert (await ears.transcribe(TONE[:800])).text == ""
        assert asked.requests == []


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("refuses", "refuses: 400$"),
        ("half", "failed: RemoteProtocolError$"),
        ("html", "something else than a transcript"),
        ("list", "something else than a transcript"),
        ("number", "something else than a transcript"),
        ("none", "something else than a transcript"),
    ],
)
async def test_a_servers_failures_are_told_without_the_words(model: str, why: str) -> None:
    with serving(TranscriptionHandler) as (url, _), pytest.raises(PartFailed, match=why) as failure:
        await heard_by(url, model).transcribe(TONE)
    assert "secret" not in str(failure.value)


async def test_without_network_it_fails() -> None:
    with pytest.raises(PartFailed, match="failed: ConnectError"):
        await heard_by("http://127.0.0.1:9").transcribe(TONE)


async def test_a_server_that_hangs_is_given_up_or_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(TranscriptionHandler) as (url, asked):
        ears = heard_by(url, "hangs")
        task = asyncio.create_task(ears.transcribe(TONE))
        while not asked.requests:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.01)
        task.cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        monkeypatch.setattr("vita_duplex.asr.openai.TIMEOUT_S", 0.1)
        with pytest.raises(PartFailed, match="failed: ReadTimeout"):
            await heard_by(url, "hangs").transcribe(TONE)
        asked.left.set()


# ── the settings ───────────────────────────────────────────────────────────────────────


def test_models_that_hear_go_without_ears_unless_some_are_named() -> None:
    assert load_asr(AsrConfig(), needed=False) is None
    assert isinstance(load_asr(AsrConfig(kind="openai"), needed=False), OpenAiTranscription)
    assert Config().reads_only
    assert not Config.model_validate({"engine": {"kind": "scripted"}}).reads_only
    assert Config.model_validate({"engine": {"kind": "scripted"}, "models": {"small": {"kind": "text"}}}).reads_only


@pytest.mark.parametrize("missing", ["ctranslate2", "tokenizers"])
def test_whisper_without_its_packages_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(PartFailed, match=r"install the extra \[whisper\]$"):
        Whisper(WhisperConfig())


# ── the real ones ──────────────────────────────────────────────────────────────────────


@pytest.mark.real
@pytest.mark.parametrize("kind", ["moonshine", "whisper"])
async def test_ears_of_this_machine_hear_what_people_say(kind: str) -> None:
    if kind == "whisper":
        pytest.importorskip("ctranslate2", reason="the extra [whisper] is not installed; see `make chinese`")
    ears = load_asr(AsrConfig.model_validate({"kind": kind}), needed=False)
    assert ears is not None
    spoken = {"goforward": "go forward 10 meters", "jfk-ask": "ask what you can do for your country"}
    for name, words in spoken.items():
        heard = await ears.transcribe(sounds.clip(name))
        tidy = "".join(c for c in heard.text.lower() if c.isalnum() or c == " ").replace("ten", "10")
        assert jiwer.wer(words, tidy) <= 0.2
        assert -1 < heard.log_probability < 0
    assert (await ears.transcribe(np.zeros(INPUT_RATE, np.float32))) == Transcript("")
    both = await ears.transcribe(
        np.resize(np.concatenate([sounds.clip("jfk-ask"), np.zeros(INPUT_RATE)]), 50 * INPUT_RATE)
    )
    assert both.text.lower().count("your country") >= 6
