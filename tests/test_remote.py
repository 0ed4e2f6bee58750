"""VITA over HTTP: the lines around the requests, and the requests to a real vLLM server."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image as Pixels
from pydantic import SecretStr
from safetensors.numpy import load_file
from served import ROOT, free_port
from vllm_server import VllmServer, vllm_server

from vita_duplex.config import ConfigError, load_config
from vita_duplex.engine.remote import (
    RemoteConfig,
    RemoteInstance,
    Spoken,
    beginnings,
    complaint,
    content,
    identity,
    is_only_named,
    judgement,
    states_of,
)
from vita_duplex.engine.seams import AssistantMessage, Judgement, PartFailed, Query, UserMessage, Utterance
from vita_duplex.models.prompts import Audio, Image, Prompt, wording

GOLDEN = ROOT / "tests" / "golden"
VITA = wording()
KEY = b"a key"


def sound(number: int, samples: int = 1600) -> Utterance:
    return Utterance(number, np.random.default_rng(number).normal(0, 0.1, samples).astype(np.float32))


# ── pure ───────────────────────────────────────────────────────────────────────────────────


def test_the_states_are_weighed_against_each_other_only() -> None:
    logs = {"token_id:3": np.log(0.02), "token_id:4": np.log(0.01), "token_id:5": np.log(0.01), "token_id:9": -0.04}
    verdict = judgement(logs, {"query": 3, "noise": 4, "typed": 5})
    assert (verdict.p1, verdict.p2, verdict.p3) == pytest.approx((0.5, 0.25, 0.25))
    with pytest.raises(KeyError):
        judgement(logs, {"query": 3, "noise": 4, "typed": 6})


def test_hopeless_probabilities_are_still_numbers() -> None:
    logs = {"token_id:3": -9999.0, "token_id:4": -9000.0, "token_id:5": -9999.0}
    assert judgement(logs, {"query": 3, "noise": 4, "typed": 5}) == Judgement(0.0, 1.0, 0.0)


def test_a_prompt_is_sent_to_the_letter_and_its_media_to_the_bit() -> None:
    heard, seen = sound(1), np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    prompt = Prompt(("user:", Image(seen), Audio(heard), "</s>\nbot:"), VITA)
    before, picture, audio, after, begun = content(prompt, "<1>", KEY, ())
    assert [part["text"] for part in (before, after, begun)] == ["user:", "</s>\nbot:", "<1>"]
    shown = np.asarray(Pixels.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1]))))
    np.testing.assert_array_equal(shown, seen[:, ::-1])  # the original's live demo mirrors what its camera sees
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["input_audio"]["data"])), dtype="float32")
    np.testing.assert_array_equal(played, heard.samples)
    assert rate == 16_000


def test_media_that_the_server_has_are_only_named() -> None:
    prompt = Prompt((Audio(sound(1)), "and", Audio(sound(2))), VITA)
    first, text, second = content(prompt, "", KEY, ())
    again = content(prompt, "", KEY, {first["uuid"]})
    assert again == [{"type": "input_audio", "input_audio": None, "uuid": first["uuid"]}, text, second]
    assert [is_only_named(part) for part in again] == [True, False, False]


def test_a_name_stands_for_the_very_numbers_and_cannot_be_guessed() -> None:
    samples = np.zeros(1600, np.float32)
    assert identity(samples, KEY) == identity(samples.copy(), KEY)
    others = (samples[:-1], samples.reshape(2, 800), samples.view(np.int32), samples + 1e-9)
    assert len({identity(samples, KEY), identity(samples, b"another"), *(identity(one, KEY) for one in others)}) == 6


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_no_control_token_is_spoken_however_it_comes(size: int) -> None:
    text = "Well <2>a < b</s> <3, <un<unk>"
    spoken = Spoken(VITA.reserved)
    pieces = [spoken.push(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join([*pieces, spoken.finish()]) == "Well a < b <3, <un"


def test_text_waits_only_while_it_may_become_a_control_token() -> None:
    spoken = Spoken(VITA.reserved)
    assert [spoken.push(delta) for delta in ("one <", " two", " <1", ">three")] == ["one ", "< two", " ", "three"]


def test_what_a_server_complains_of_is_told_in_one_line() -> None:
    assert complaint('{"error": {"message": "too\\nlong", "code": 400}}') == "too long"
    assert complaint('{"error": "Unauthorized"}') == "Unauthorized"
    assert complaint("<html>Bad gateway</html>") == "<html>Bad gateway</html>"
    assert complaint("[1]") == "[1]"
    assert len(complaint("x" * 5000)) == 300


def test_state_tokens_of_several_tokens_are_told_apart_by_one() -> None:
    before, begun, *with_state = beginnings(VITA)
    ids = {before: [2, 9], begun: [2, 9, 60]} | {text: [2, 9, 60, 49 + n, 62] for n, text in enumerate(with_state)}
    states = states_of(ids, VITA)
    assert (states.shared, list(states.deciding.values())) == ((60,), [49, 50, 51])
    with pytest.raises(ValueError, match="stands alone"):
        states_of(ids | {begun: [2, 9, 61]}, VITA)


def test_addresses_are_checked_where_they_are_read() -> None:
    with pytest.raises(ConfigError, match=r"at least one address in engine\.remote\.urls"):
        load_config(None, {}, ["engine.kind=remote"])
    with pytest.raises(ConfigError, match=r"engine\.remote\.urls\.0: .*node1:8000"):
        load_config(None, {}, ["engine.remote.urls=[node1:8000]"])


def test_the_key_is_in_no_text_that_people_see() -> None:
    key = {"VITA_DUPLEX_ENGINE__REMOTE__API_KEY": "246813"}
    config = load_config(ROOT / "configs" / "vita-remote.yaml", key)
    assert config.engine.remote.api_key is not None
    assert config.engine.remote.api_key.get_secret_value() == "246813"
    assert "246813" not in f"{config!r} {config}"
    with pytest.raises(ConfigError) as refused:
        load_config(None, key, ["engine.kind=remote"])
    assert "246813" not in str(refused.value)


async def answered(instance: RemoteInstance, query: Query) -> tuple[Judgement, str]:
    async with aclosing(instance.answer(query)) as stream:
        first, *deltas = [item async for item in stream]
    assert isinstance(first, Judgement)
    return first, "".join(str(delta) for delta in deltas)


async def test_an_address_where_nobody_listens_is_named() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    instance = RemoteInstance("a", address, RemoteConfig())
    await instance.warm(Query((), ()))  # may come up later
    assert not instance.healthy
    with pytest.raises(PartFailed, match=f"{address}: cannot be reached"):
        await answered(instance, Query((), (sound(1),)))
    instance.close()
    await asyncio.sleep(0)


# ── a real vLLM server ─────────────────────────────────────────────────────────────────────

real = pytest.mark.real
MODEL = load_file(GOLDEN / "full_model.safetensors")
CASES = {case["name"]: case for case in json.loads((GOLDEN / "full_model.json").read_text(encoding="utf-8"))["cases"]}


@pytest.fixture(scope="module")
def server() -> Iterator[VllmServer]:
    with vllm_server("--api-key", "sesame") as server:
        yield server


@pytest.fixture
async def instance(server: VllmServer) -> AsyncGenerator[RemoteInstance]:
    instance = RemoteInstance("a", server.address, RemoteConfig(api_key=SecretStr("sesame"), max_tokens=12))
    yield instance
    instance.close()
    await asyncio.sleep(0)


def golden(name: str) -> Utterance:
    return Utterance(1, MODEL[f"src.{name}"])


def softmax_of_states(case: str) -> list[float]:
    shares = np.exp(MODEL[f"{case}.logprobs_last"][3:6].astype(np.float64))
    return list(shares / shares.sum())


def probabilities(verdict: Judgement) -> list[float]:
    return [verdict.p1, verdict.p2, verdict.p3]


async def until(condition: Any, limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@real
async def test_the_verdict_is_the_originals(instance: RemoteInstance) -> None:
    for _ in range(2):  # the second time the sound is only named, and the prompt in the prefix cache
        verdict, _ = await answered(instance, Query((), (golden("wave_mid"),)))
        assert probabilities(verdict) == pytest.approx(softmax_of_states("audio"), abs=1e-4)
    assert instance.healthy
