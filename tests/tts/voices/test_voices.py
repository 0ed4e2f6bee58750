"""Every voice: what it says, and how it ends — cancelled, empty, long, unknown, without network, in the middle."""

import asyncio
import os
import struct
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.support.paths import TESTS
from tests.support.served import free_port
from tests.support.virtual_time import run as run_virtually
from tests.support.voice_servers import SECRET_ID, SECRET_KEY, Asked, OpenAiHandler, TencentHandler, serving, tone
from vita_duplex.config import Config
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import Chunk, PartFailed, Synthesiser
from vita_duplex.server import voices
from vita_duplex.settings import load_config
from vita_duplex.tts.speech import PacedSpeech, SpeechConfig
from vita_duplex.tts.voices.command import CommandConfig, CommandVoice
from vita_duplex.tts.voices.fallback import REST_S, WithFallback
from vita_duplex.tts.voices.openai import OpenAiSpeech, OpenAiSpeechConfig
from vita_duplex.tts.voices.pcm import Pcm16, Wav
from vita_duplex.tts.voices.scripted import PITCHES_HZ
from vita_duplex.tts.voices.tencent import LONGEST_CHINESE, LONGEST_ENGLISH, TencentConfig, TencentVoice

LONG = "One two three, four five six. " * 334
"""10,000 characters."""


async def all_of(voice: Synthesiser, text: str) -> Samples:
    async with aclosing(voice.synthesise(text)) as speech:
        said = [samples async for samples in speech]
        return np.concatenate([np.zeros(0, np.float32), *[one for one in said if not isinstance(one, PartFailed)]])


async def until_failure(voice: Synthesiser, text: str) -> tuple[list[float], str]:
    """The samples that came before the failure, and its message."""
    came: list[float] = []
    try:
        async for samples in voice.synthesise(text):
            assert not isinstance(samples, PartFailed)
            came += samples.tolist()
    except PartFailed as failure:
        return came, failure.message
    raise AssertionError("it did not fail")


async def cancelled_in_mid_sentence(voice: Synthesiser, text: str, begun: threading.Event | None = None) -> None:
    """Cancel after the first samples, or where none come, once the work has begun."""
    first = asyncio.Event()

    async def speak() -> None:
        async with aclosing(voice.synthesise(text)) as speech:
            async for _ in speech:
                first.set()

    task = asyncio.create_task(speak())
    if begun is None:
        await first.wait()
    else:
        await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    async with asyncio.timeout(5):  # less than any of the services' own limits
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def values(text: str) -> list[float]:
    return (np.frombuffer(tone(text), "<i2") / 32768).tolist()


# ── OpenAI-compatible ──────────────────────────────────────────────────────────────────


@contextmanager
def openai_voice(voice: str = "alloy") -> Iterator[tuple[OpenAiSpeech, Asked]]:
    with serving(OpenAiHandler) as (url, asked):
        yield OpenAiSpeech(OpenAiSpeechConfig(url=f"{url}/v1", api_key="key", model="m", voice=voice)), asked


async def test_openai_streams_what_it_is_asked_for() -> None:
    with openai_voice() as (voice, asked):
        assert (await all_of(voice, "Hello there.")).tolist() == values("Hello there.")
        assert asked.requests == [
            {
                "path": "/v1/audio/speech",
                "model": "m",
                "voice": "alloy",
                "input": "Hello there.",
                "response_format": "pcm",
            }
        ]
        assert asked.headers[0]["Authorization"] == "Bearer key"
        assert voice.rate == 24_000


async def test_openai_long_text_and_none() -> None:
    with openai_voice() as (voice, asked):
        assert len(await all_of(voice, LONG)) == 10 * len(LONG)
        assert len(await all_of(voice, " ")) == 0
        assert len(asked.requests) == 1


async def test_openai_unknown_voice_fails_without_quoting_the_text() -> None:
    with openai_voice("nobody") as (voice, _), pytest.raises(PartFailed) as failure:
        await all_of(voice, "a secret")
    assert failure.value.message.endswith("refuses: 404 voice_not_found")


async def test_openai_half_a_stream_is_a_failure_after_its_samples() -> None:
    with openai_voice("half") as (voice, _):
        came, why = await until_failure(voice, "Hello there.")
    assert came == values("Hello there.")[:60]
    assert why.endswith("failed: RemoteProtocolError")


async def test_openai_without_network_fails() -> None:
    voice = OpenAiSpeech(OpenAiSpeechConfig(url=f"http://127.0.0.1:{free_port()}/v1"))
    with pytest.raises(PartFailed, match="failed: ConnectError"):
        await all_of(voice, "Hello.")


async def test_openai_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vita_duplex.tts.voices.openai.TIMEOUT_S", 0.1)
    with openai_voice("mute") as (voice, asked):
        with pytest.raises(PartFailed, match="failed: ReadTimeout"):
            await all_of(voice, "Hello.")
        asked.left.set()


async def test_openai_cancel_closes_the_connection() -> None:
    with openai_voice("endless") as (voice, asked):
        await cancelled_in_mid_sentence(voice, "Hello." * 100)
        assert await asyncio.to_thread(asked.left.wait, 5)


# ── Tencent Cloud ──────────────────────────────────────────────────────────────────────


@contextmanager
def tencent_voice(voice_type: int = 301009, key: str = SECRET_KEY) -> Iterator[tuple[TencentVoice, Asked]]:
    pytest.importorskip("tencentcloud")
    with serving(TencentHandler) as (url, asked):
        yield (
            TencentVoice(TencentConfig(secret_id=SECRET_ID, secret_key=key, voice_type=voice_type), url),
            asked,
        )


async def test_tencent_is_asked_as_the_original_asked_and_signed() -> None:
    with tencent_voice() as (voice, asked):
        assert (await all_of(voice, "你好。")).tolist() == values("你好。")
        (wish,) = asked.requests
        assert wish.pop("SessionId")
        assert wish == {
            "Text": "你好。", "Volume": 1, "Speed": 0, "ProjectId": 0, "ModelType": 1, "VoiceType": 301009,
            "PrimaryLanguage": 1, "SampleRate": 16000, "Codec": "pcm",
        }  # fmt: skip
        assert asked.headers[0]["X-TC-Action"] == "TextToVoice"
        assert asked.headers[0]["X-TC-Version"] == "2019-08-23"
        assert voice.rate == 16_000


async def test_tencent_long_text_goes_in_allowed_parts() -> None:
    with tencent_voice() as (voice, asked):
        await all_of(voice, LONG)
        assert max(len(wish["Text"]) for wish in asked.requests) <= LONGEST_ENGLISH
        assert "".join("".join(wish["Text"].split()) for wish in asked.requests) == "".join(LONG.split())
        asked.requests.clear()
        await all_of(voice, "一二三四，" * 100)
        assert max(len(wish["Text"]) for wish in asked.requests) <= LONGEST_CHINESE
        asked.requests.clear()
        assert len(await all_of(voice, "  ")) == len(asked.requests) == 0


@pytest.mark.parametrize(
    ("voice_type", "key", "why"),
    [
        (1, SECRET_KEY, "Tencent Cloud refuses: InvalidParameterValue.VoiceType"),
        (2, SECRET_KEY, "Tencent Cloud sent audio that is none"),
        (4, SECRET_KEY, "Tencent Cloud refuses: "),
        (301009, "wrong", "Tencent Cloud refuses: AuthFailure.SignatureFailure"),
    ],
)
async def test_tencent_failures_have_a_code_and_no_text(voice_type: int, key: str, why: str) -> None:
    with tencent_voice(voice_type, key) as (voice, _), pytest.raises(PartFailed) as failure:
        await all_of(voice, "a secret")
    assert failure.value.message.startswith(why)
    assert "secret" not in failure.value.message


async def test_tencent_without_network_fails() -> None:
    pytest.importorskip("tencentcloud")
    config = TencentConfig(secret_id="a", secret_key="b")
    with pytest.raises(PartFailed, match="refuses: ClientNetworkError"):
        await all_of(TencentVoice(config, f"http://127.0.0.1:{free_port()}"), "Hello.")


async def test_tencent_cancel_frees_the_session_while_the_request_waits() -> None:
    with tencent_voice(3) as (voice, asked):
        begun = threading.Event()
        ask = voice._ask
        voice._ask = lambda text: (begun.set(), ask(text))[1]
        await cancelled_in_mid_sentence(voice, "Hello.", begun)
        asked.left.set()


def test_tencent_without_keys_says_so() -> None:
    pytest.importorskip("tencentcloud")
    with pytest.raises(PartFailed, match="secret_id and secret_key are needed"):
        TencentVoice(TencentConfig())


# ── a program ──────────────────────────────────────────────────────────────────────────

SPEAKER = TESTS / "support" / "voice_program.py"


def program(mode: str) -> CommandConfig:
    return CommandConfig(program=(sys.executable, "-S", str(SPEAKER), mode, "{text}"))


async def test_a_program_is_given_the_text_and_its_wav_is_heard() -> None:
    voice = CommandVoice(program("speak"))
    assert voice.rate == 22_050
    assert (await all_of(voice, "Hello; $(rm x) 'there'")).tolist() == values("Hello; $(rm x) 'there'")
    assert len(await all_of(voice, LONG)) == 10 * len(LONG)
    assert len(await all_of(voice, "")) == 0


async def test_a_reply_is_never_an_option() -> None:
    assert (await all_of(CommandVoice(program("speak")), "--mode")).tolist() == values("mode")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (CommandConfig(), "{text} in one of them"),
        (CommandConfig(program=("echo", "text")), "{text} in one of them"),
        (CommandConfig(program=("/no/such/program", "{text}")), "No such file"),
        (CommandConfig(program=("false", "{text}")), "ended with code 1"),
        (CommandConfig(program=("echo", "{text}")), "it is no WAV"),
        (CommandConfig(program=("true", "{text}")), "no WAV comes out of it"),
        (program("stereo"), "2 channels"),
    ],
)
def test_a_program_that_does_not_speak_is_told_at_the_start(config: CommandConfig, why: str) -> None:
    with pytest.raises(PartFailed, match=why):
        CommandVoice(config)


async def test_half_a_wav_is_a_failure_after_its_samples() -> None:
    came, why = await until_failure(CommandVoice(program("half")), "Hello there.")
    assert came == values("Hello there.")[:60]
    assert why.endswith("ended with code 3")


def children() -> set[psutil.Process]:
    """Processes of this one; other tests may have left some that are about to end."""
    return set(psutil.Process().children())


async def test_a_program_that_hangs_is_given_up_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    voice, before = CommandVoice(program("hang")), children()
    monkeypatch.setattr("vita_duplex.tts.voices.command.TIMEOUT_S", 0.3)
    with pytest.raises(PartFailed, match="nothing came"):
        await all_of(voice, "Hello there.")
    assert children() <= before


async def test_cancel_kills_the_program() -> None:
    voice, before = CommandVoice(program("hang")), children()
    await cancelled_in_mid_sentence(voice, "Hello there.")
    assert children() <= before


# ── bytes ──────────────────────────────────────────────────────────────────────────────


def test_samples_torn_in_two_are_put_together() -> None:
    pcm, data = Pcm16(), tone("abc")
    samples = np.concatenate([pcm.push(data[at : at + 1]) for at in range(len(data))])
    assert samples.tolist() == values("abc")


def test_a_wav_header_in_single_bytes_with_chunks_before_the_samples() -> None:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    data = b"RIFF\xff\xff\xff\xffWAVE" + fmt + b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"data\0\0\0\0" + tone("x")
    wav = Wav()
    samples = np.concatenate([wav.push(data[at : at + 1]) for at in range(len(data))])
    assert (wav.rate, samples.tolist()) == (8000, values("x"))


# ── the fallback ───────────────────────────────────────────────────────────────────────


class Numbers:
    """Yields its name's number as often as there are characters, in parts of two; fails where it is told to."""

    def __init__(self, value: float, rate: int = 1000) -> None:
        self.rate, self.value = rate, value
        self.fails_after: int | None = None
        self.asked: list[str] = []

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        self.asked.append(text)
        for at in range(0, len(text), 2):
            if self.fails_after is not None and at >= self.fails_after:
                raise PartFailed("tts", "scripted")
            yield np.full(len(text[at : at + 2]), self.value, np.float32)


def test_the_fallback_speaks_while_the_first_voice_rests() -> None:
    async def main() -> None:
        first, second = Numbers(1.0), Numbers(2.0)
        voice = WithFallback(first, second)
        assert (await all_of(voice, "abcd")).tolist() == [1.0] * 4
        first.fails_after = 0
        assert (await all_of(voice, "abcd")).tolist() == [2.0] * 4
        first.fails_after = None
        await asyncio.sleep(REST_S - 0.1)
        assert (await all_of(voice, "ef")).tolist() == [2.0] * 2
        await asyncio.sleep(0.2)
        assert (await all_of(voice, "gh")).tolist() == [1.0] * 2
        assert first.asked == ["abcd", "abcd", "gh"]

    run_virtually(main())


def test_each_piece_of_the_fallback_begins_with_the_reason() -> None:
    async def reasons(voice: Synthesiser) -> list[str]:
        async with aclosing(voice.synthesise("ab")) as speech:
            return [one.message if isinstance(one, PartFailed) else "sound" async for one in speech]

    async def main() -> None:
        first = Numbers(1.0)
        voice = WithFallback(first, Numbers(2.0))
        assert await reasons(voice) == ["sound"]
        first.fails_after = 0
        for _ in range(2):
            assert await reasons(voice) == ["scripted; another voice speaks", "sound"]

    run_virtually(main())


def test_what_was_begun_is_not_begun_again_by_the_fallback() -> None:
    async def main() -> None:
        first, second = Numbers(1.0), Numbers(2.0)
        first.fails_after = 2
        assert await until_failure(WithFallback(first, second), "abcd") == ([1.0, 1.0], "scripted")
        assert second.asked == []

    run_virtually(main())


def test_the_fallback_is_brought_to_the_rate_of_the_first() -> None:
    async def main() -> None:
        first, second = Numbers(1.0, 24_000), Numbers(0.5, 16_000)
        first.fails_after = 0
        samples = await all_of(WithFallback(first, second), "x" * 1600)
        assert len(samples) == 2400
        assert np.allclose(samples[200:-200], 0.5, atol=0.01)

    run_virtually(main())


async def test_cancelling_reaches_through_the_fallback() -> None:
    with openai_voice("endless") as (voice, asked):
        await cancelled_in_mid_sentence(WithFallback(voice, Numbers(1.0)), "Hello." * 100)
        assert await asyncio.to_thread(asked.left.wait, 5)


# ── what fails is told, and the text goes on ───────────────────────────────────────────

REPLY = "One two three. Four five six. Seven eight."


async def spoken(voice: Synthesiser) -> list[Chunk]:
    chunks: list[Chunk] = []
    speech = PacedSpeech(voice, SpeechConfig(), client_pauses=True)
    speech.write(REPLY)
    speech.finish()
    await speech.play(chunks.append)
    return chunks


def failing(kind: str, how: str) -> AbstractContextManager[tuple[Synthesiser, Asked]]:
    match kind, how:
        case "openai", "no network":
            return nullcontext((OpenAiSpeech(OpenAiSpeechConfig(url=f"http://127.0.0.1:{free_port()}/v1")), Asked()))
        case "tencent", "no network":
            pytest.importorskip("tencentcloud")
            config = TencentConfig(secret_id="a", secret_key="b")
            return nullcontext((TencentVoice(config, f"http://127.0.0.1:{free_port()}"), Asked()))
        case "openai", _:
            return openai_voice({"unknown voice": "nobody", "half a stream": "half"}[how])
        case "tencent", _:
            return tencent_voice({"unknown voice": 1, "half a stream": 4}[how])
        case _:
            return nullcontext(
                (CommandVoice(program({"unknown voice": "refuse", "half a stream": "half"}[how])), Asked())
            )


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *product(["openai", "tencent"], ["no network", "unknown voice", "half a stream"]),
        *product(["command"], ["unknown voice", "half a stream"]),  # without a network a program ends with a code
    ],
)
async def test_whatever_fails_is_told_and_the_text_goes_on(kind: str, how: str) -> None:
    with failing(kind, how) as (voice, _):
        chunks = await spoken(voice)
    assert [chunk.text for chunk in chunks if chunk.text] == ["One two three.", "Four five six.", "Seven eight."]
    assert len([chunk for chunk in chunks if chunk.error]) == 3
    assert "three" not in "".join(chunk.error or "" for chunk in chunks)
    # Half a stream is heard as far as it came; the rest had nothing to begin with. Tencent's comes whole or not.
    assert any(len(chunk.samples) for chunk in chunks) == (how == "half a stream" and kind != "tencent")


@pytest.mark.parametrize("how", ["no network", "unknown voice"])
@pytest.mark.parametrize("kind", ["openai", "tencent"])
async def test_what_fails_is_said_by_the_fallback_and_told_once(kind: str, how: str) -> None:
    with failing(kind, how) as (voice, _):
        chunks = await spoken(WithFallback(voice, Numbers(0.5, voice.rate)))
    [told] = [chunk.error for chunk in chunks if chunk.error]
    assert told.endswith("another voice speaks")
    assert (
        sum(len(chunk.samples) for chunk in chunks) == len(REPLY) - 2
    )  # a character, a sample; not the spaces between


# ── the settings and the list ──────────────────────────────────────────────────────────


def test_voices_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "kokoro" / "voices").mkdir(parents=True)
    config = load_config(None, {}, ["tts.fallback=command", f"engine.cache={tmp_path}"])
    assert voices.run(config, measure=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:10].strip() for line in lines[:-1]] == [
        "* hibari", "kokoro", "openai", "tencent", "+ command", "humming",
    ]  # fmt: skip
    assert lines[4].endswith("set tts.command.program")
    assert lines[5].endswith("ready (humming, humming-low, humming-high)")


def test_further_voices_of_a_service_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["tts.openai.voices=[alloy, nova]", "tts.tencent.secret_id=x", "tts.tencent.voices=[101001]"]
    assert voices.run(load_config(None, {}, settings), measure=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "alloy, nova of gpt-4o-mini-tts" in lines[2]
    if not lines[3].endswith("[tencent]"):
        assert lines[3].endswith("voice 301009, 101001")


async def test_each_voice_of_a_service_is_asked_for_by_its_name_and_has_the_fallback() -> None:
    with serving(OpenAiHandler) as (url, asked):
        settings = {"url": f"{url}/v1", "voices": ["sage", "alloy", "nobody"]}
        config = Config.model_validate({"tts": {"kind": "openai", "fallback": "humming", "openai": settings}})
        by_name, _ = voices.load_voices(config)
        assert list(by_name) == ["alloy", "sage", "nobody"]
        for name in ("alloy", "sage"):
            assert (await all_of(by_name[name], "Hello.")).tolist() == values("Hello.")
        assert len(await all_of(by_name["nobody"], "Hello.")) == 6 * 24_000 // 15
        assert [one["voice"] for one in asked.requests] == ["alloy", "sage", "nobody"]


async def test_each_voice_of_tencent_is_asked_for_by_its_number() -> None:
    with tencent_voice() as (voice, asked):
        for one in (voice, voice.speaking_as(101001)):
            assert (await all_of(one, "你好。")).tolist() == values("你好。")
        assert [one["VoiceType"] for one in asked.requests] == [301009, 101001]


def test_a_voice_that_hums_has_two_others() -> None:
    async def peak(voice: Synthesiser) -> float:
        samples = await all_of(voice, "Hello there.")
        return float(np.fft.rfftfreq(len(samples), 1 / voice.rate)[np.abs(np.fft.rfft(samples)).argmax()])

    by_name, _ = voices.load_voices(load_config(None, {}, ["tts.kind=humming"]))
    peaks = {name: run_virtually(peak(voice)) for name, voice in by_name.items()}
    assert peaks == {name: pytest.approx(pitch, abs=2) for name, pitch in PITCHES_HZ.items()}


def test_a_voice_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert voices.run(load_config(None, {}, ["tts.kind=humming"]), measure=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(voices.FIRST_CLAUSES) + 1
    assert "real-time factor" in lines[-1]
    assert voices.run(load_config(None, {}, ["tts.kind=command"]), measure=True) == 1


def test_a_secret_is_not_printed() -> None:
    config = load_config(None, {"VITA_DUPLEX_TTS__OPENAI__API_KEY": "sk-123"})
    assert config.tts.openai.api_key.get_secret_value() == "sk-123"
    assert "sk-123" not in repr(config)


async def test_a_voice_of_the_settings_speaks_with_its_fallback() -> None:
    config = Config.model_validate(
        {"tts": {"kind": "openai", "fallback": "humming", "openai": {"url": f"http://127.0.0.1:{free_port()}"}}}
    )
    by_name, voice_queue = voices.load_voices(config)
    assert list(by_name) == ["alloy"]
    voice = by_name["alloy"]
    assert len(await all_of(voice, "Hello there.")) == 12 * 24_000 // 15
    assert voice_queue is None


# ── the real ones on this machine ──────────────────────────────────────────────────────


def local(kind: str) -> Synthesiser:
    config = load_config(None, os.environ, [f"tts.kind={kind}"])
    if kind == "kokoro" and not voices.kokoro.voices(voices.kokoro_folder(config)):
        pytest.skip("no Kokoro prepared by tools/make_kokoro.py")
    by_name, voice_queue = voices.load_voices(config)
    assert voice_queue is not None
    return by_name[config.tts.name]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["hibari", "kokoro"])
async def test_a_local_voice_speaks_stops_and_reads_anything(kind: str) -> None:
    voice = local(kind)
    spoken = await all_of(voice, "The capital of France is Paris.")
    assert 1.2 < len(spoken) / voice.rate < 4
    assert 0.02 < np.sqrt(np.mean(spoken**2)) < 0.5
    assert len(await all_of(voice, "")) == 0
    await cancelled_in_mid_sentence(voice, "One, two, three, four. " * 20)
    async with aclosing(voice.synthesise(LONG)) as speech:  # ten minutes; it begins soon and can be left
        assert len(await anext(speech)) > 0
    await all_of(voice, "❓ ʘ ß 你好 123 …")


@pytest.mark.real
async def test_kokoro_speaks_with_each_voice_of_its_folder_in_that_ones_language() -> None:
    config = load_config(None, os.environ, ["tts.kind=kokoro"])
    local("kokoro")
    by_name, _ = voices.load_voices(config)
    assert next(iter(by_name)) == "af_heart"
    assert {"bm_george", "zf_xiaobei", "zm_yunxi"} <= set(by_name)
    assert {name[0] for name in by_name} == {"a", "b", "z"}

    async def same(name: str, text: str) -> bool:
        one, other = [await all_of(by_name[each], text) for each in ("af_heart", name)]
        return np.array_equal(one, other)

    assert [await same(name, "Hello.") for name in ("bm_george", "zm_yunxi")] == [False, True]
    assert [await same(name, "你好。") for name in ("bm_george", "zm_yunxi")] == [True, False]


def test_a_damaged_voice_of_kokoro_is_named(tmp_path: Path) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "af_heart.bin").write_bytes(b"short")
    with pytest.raises(PartFailed, match="Kokoro's voice 'af_heart' is damaged"):
        voices.kokoro._style(tmp_path, "af_heart")


async def test_kokoro_stops_in_mid_sentence_for_the_next_who_speaks() -> None:
    voice = local("kokoro")
    begun, stopped = threading.Event(), threading.Event()
    run = voice._run  # type: ignore[attr-defined]

    def noted(*arguments: Any) -> Samples:
        begun.set()
        try:
            return run(*arguments)  # type: ignore[no-any-return]
        except Exception:
            stopped.set()
            raise

    voice._run = noted  # type: ignore[attr-defined]
    sentence = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen."
    await cancelled_in_mid_sentence(voice, sentence, begun)
    await asyncio.wrap_future(voice._executor.submit(lambda: None))  # type: ignore[attr-defined]
    assert stopped.is_set(), "the run went on to its end"


@pytest.mark.real
def test_kokoro_without_its_files_or_voice_says_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("misaki")
    with pytest.raises(PartFailed, match="no Kokoro in"):
        voices.load_voices(load_config(None, {}, ["tts.kind=kokoro", f"tts.kokoro.folder={tmp_path}"]))
    local("kokoro")
    with pytest.raises(PartFailed, match="no voice 'nobody'; there are af_alloy, "):
        voices.load_voices(load_config(None, os.environ, ["tts.kind=kokoro", "tts.kokoro.voice=nobody"]))
