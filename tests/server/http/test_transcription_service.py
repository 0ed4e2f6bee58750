"""`/v1/audio/transcriptions`, asked by OpenAI's own client."""

import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from openai import AsyncOpenAI
from openai.types.audio import Transcription, TranscriptionVerbose

from tests.support.hearing import words
from tests.support.paths import ROOT
from tests.support.sockets import scripted_server
from vita_duplex.asr.local import LocalAsr
from vita_duplex.asr.moonshine import Moonshine
from vita_duplex.config import Config
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.ports import Asr, PartFailed, Transcript
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.http import media
from vita_duplex.server.http.app import create_app
from vita_duplex.server.http.transcripts import Segment, srt, vtt
from vita_duplex.server.http.transcripts import Transcription as Told
from vita_duplex.server.parts import load_parts
from vita_duplex.server.server import Server
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.silero import Silero

DATA = ROOT / "tests" / "data"


class Counting:
    """Hears how long an utterance is, and what language it is said to be in."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.languages: list[str | None] = []
        self._fails_at = fails_at

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        self.languages.append(language)
        if len(self.languages) == self._fails_at:
            raise PartFailed("asr", "out of memory")
        return Transcript(f"part {len(self.languages)}.", -0.25)


def hearing(asr: Asr | None, **config: Any) -> Server:
    server = scripted_server(**config)
    assert server.parts is not None
    server.parts = replace(server.parts, transcriber=asr)
    return server


@asynccontextmanager
async def client(server: Server, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(server)))
    address = "http://127.0.0.1:8000/v1"
    async with AsyncOpenAI(base_url=address, api_key=key, max_retries=0, http_client=http) as openai_client:
        yield openai_client


async def ask(server: Server, data: bytes | None = None, key: str = "none", **wishes: Any) -> Any:
    async with client(server, key) as asked:
        named = ("clip.wav", spoken() if data is None else data)
        return await asked.audio.transcriptions.create(**{"model": "whisper-1", "file": named} | wishes)


async def refused(server: Server, data: bytes | None = None, **wishes: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as error:
        await ask(server, data, **wishes)
    return error.value


def spoken(rate: int = INPUT_RATE, format: str = "WAV") -> bytes:
    """One second of silence, one that is loud, one of silence, two that are loud."""
    loud = 0.3 * np.sin(2 * np.pi * 200 * np.arange(2 * rate) / rate)
    file = io.BytesIO()
    quiet = np.zeros(rate)
    soundfile.write(file, np.concatenate([quiet, loud[:rate], quiet, loud]), rate, format=format)
    return file.getvalue()


async def test_a_recording_is_written_down_utterance_by_utterance() -> None:
    asr = Counting()
    answer = await ask(hearing(asr), language="en")
    assert isinstance(answer, Transcription)
    assert answer.text == "part 1. part 2."
    assert answer.usage is not None
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 5.0)
    assert asr.languages == ["en", "en"]


@pytest.mark.parametrize(("rate", "format"), [(8_000, "WAV"), (44_100, "MP3"), (48_000, "OGG"), (22_050, "FLAC")])
async def test_any_file_that_can_be_read_will_do(rate: int, format: str) -> None:
    assert (await ask(hearing(Counting()), spoken(rate, format))).text == "part 1. part 2."


async def test_the_forms_with_times_have_those_of_the_speech() -> None:
    verbose = await ask(hearing(Counting()), response_format="verbose_json", timestamp_granularities=["segment"])
    assert isinstance(verbose, TranscriptionVerbose)
    assert (verbose.duration, verbose.text) == (5.0, "part 1. part 2.")
    assert verbose.segments is not None
    times = [(one.start, one.end, one.text, one.avg_logprob) for one in verbose.segments]
    near = 0.07  # two windows
    assert times == [
        (pytest.approx(1, abs=near), pytest.approx(2, abs=near), "part 1.", -0.25),
        (pytest.approx(3, abs=near), pytest.approx(5, abs=near), "part 2.", -0.25),
    ]
    assert await ask(hearing(Counting()), response_format="text") == "part 1. part 2.\n"


def test_subtitles_are_written_as_players_read_them() -> None:
    told = Told(segments=[Segment(0.5, 61.25, "One.", 0.0), Segment(3599.9996, 3725.0, "Two.", 0.0)])
    assert srt(told) == ("1\n00:00:00,500 --> 00:01:01,250\nOne.\n\n2\n01:00:00,000 --> 01:02:05,000\nTwo.\n\n")
    assert vtt(told).startswith("WEBVTT\n\n00:00:00.500 --> 00:01:01.250\nOne.\n\n01:00:00.000 --> ")


@pytest.mark.parametrize("form", ["srt", "vtt"])
async def test_subtitles_come_as_text(form: str) -> None:
    assert "part 2." in await ask(hearing(Counting()), response_format=form)


async def test_streamed_it_comes_as_the_events_of_the_reference() -> None:
    events = [event async for event in await ask(hearing(Counting()), stream=True)]
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert [event.delta for event in events[:2]] == ["part 1.", " part 2."]
    assert events[-1].text == "part 1. part 2."


async def test_silence_has_no_words() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000), 8000, format="WAV")
    asr = Counting()
    assert (await ask(hearing(asr), file.getvalue())).text == ""
    assert asr.languages == []
    assert (await ask(hearing(asr), file.getvalue(), response_format="vtt")) == "WEBVTT\n\n"


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"include": ["logprobs"]}, "include"),
        ({"response_format": "verbose_json", "timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"response_format": "srt", "stream": True}, "response_format"),
        ({"language": "english please"}, "language"),
        ({"file": ("clip.webm", b"\x1a\x45\xdf\xa3 no recording")}, "file"),
        ({"file": ("clip.wav", b"")}, "file"),
    ],
    ids=str,
)
async def test_what_is_not_done_is_refused_by_name(wishes: Any, param: str) -> None:
    error = await refused(hearing(Counting()), **wishes)
    assert (error.status_code, error.param) == (400, param), error.message


async def test_a_recording_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "LONGEST_RECORDING_S", 4)
    assert "at most 4 s" in (await refused(hearing(Counting()))).message


async def test_without_an_asr_that_is_said() -> None:
    error = await refused(hearing(None))
    assert (error.status_code, error.code) == (404, "no_asr")


async def test_an_asr_that_fails_is_told_before_and_within_the_stream() -> None:
    server = hearing(Counting(fails_at=1))
    assert (await refused(server)).status_code == 503
    with pytest.raises(openai.APIError, match="out of memory"):
        async for _ in await ask(hearing(Counting(fails_at=2)), stream=True):
            pass
    assert 'vita_duplex_failures_total{part="asr"} 1.0' in server.metrics.text().decode()
    assert server.sessions == 0


async def test_it_wants_a_key_and_counts_for_it() -> None:
    key = new_key()
    server = hearing(Counting(), access={"keys": {"laptop": hashed(key)}}, limits={"key_minutes_per_day": 2})
    assert (await refused(server)).status_code == 401
    assert (await ask(server, key=key)).text
    assert 'requests_total{path="/v1/audio/transcriptions",status="completed"} 1.0' in server.metrics.text().decode()
    server.usage("laptop").session_time.spend(120, 0)  # type: ignore[union-attr]
    assert (await refused(server, key=key)).code == "key_minutes_used_up"


def test_a_text_models_asr_writes_recordings_down_and_gives_sessions_of_others_no_words() -> None:
    config = {"engine": {"kind": "scripted"}, "vad": {"kind": "level"}, "tts": {"kind": "humming"}}
    parts = load_parts(Config.model_validate({**config, "asr": {"kind": "openai"}}), lambda share, phase: None)
    assert parts.transcriber is parts.asr is not None
    parts.close()


@pytest.mark.real
async def test_the_default_asr_writes_down_people() -> None:
    server = hearing(LocalAsr(Moonshine(), ThreadPoolExecutor(1)))
    assert server.parts is not None
    server.parts = replace(server.parts, detector=Detector(Silero(), ThreadPoolExecutor(1)))
    clips = [soundfile.read(DATA / name)[0] for name in ("goforward.flac", "something.flac")]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate([clips[0], np.zeros(INPUT_RATE), clips[1]]), INPUT_RATE, format="FLAC")
    verbose = await ask(server, file.getvalue(), response_format="verbose_json")
    assert [words(segment.text) for segment in verbose.segments] == [
        "go forward ten meters",
        "go somewhere and do something",
    ]
    events = [event async for event in await ask(server, (DATA / "jfk-ask.flac").read_bytes(), stream=True)]
    assert words(events[-1].text) == "ask what you can do for your country"
