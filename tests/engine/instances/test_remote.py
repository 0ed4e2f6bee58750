"""VITA over HTTP: the lines around the requests, and the requests to a real vLLM server."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from PIL import Image as Pixels
from pydantic import SecretStr
from safetensors.numpy import load_file

from tests.support.paths import GOLDEN
from tests.support.served import ROOT, free_port, served
from tests.support.vllm_server import VllmServer, vllm_server
from vita_duplex.client.recording import read_recording
from vita_duplex.client.talk import converse
from vita_duplex.config import ConfigError
from vita_duplex.engine.instances import remote_http
from vita_duplex.engine.instances.remote import RemoteConfig, RemoteInstance
from vita_duplex.engine.instances.remote_http import complaint
from vita_duplex.engine.instances.remote_prompt import beginnings, content, is_only_named, states_of
from vita_duplex.engine.instances.vita import Names
from vita_duplex.engine.instances.vita_dialogue import Manner, write
from vita_duplex.engine.messages import AssistantMessage, Query, UserMessage, Utterance, Verdict
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import PartFailed
from vita_duplex.models.prompts import Audio, Image, Prompt, wording
from vita_duplex.settings import load_config

VITA = wording()


def sound(number: int, samples: int = 1600) -> Utterance:
    return Utterance(number, np.random.default_rng(number).normal(0, 0.1, samples).astype(np.float32))


# ── pure ───────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_is_sent_to_the_letter_and_its_media_to_the_bit() -> None:
    heard, seen = sound(1), np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    prompt = Prompt(("user:", Image(seen), Audio(heard), "</s>\nbot:"), VITA)
    before, picture, audio, after, begun = content(prompt, "<1>", Names(), ())
    assert [part["text"] for part in (before, after, begun)] == ["user:", "</s>\nbot:", "<1>"]
    shown = np.asarray(Pixels.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].split(",")[1]))))
    np.testing.assert_array_equal(shown, seen[:, ::-1])  # the original's live demo mirrors what its camera sees
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["input_audio"]["data"])), dtype="float32")
    np.testing.assert_array_equal(played, heard.samples)
    assert rate == 16_000


def test_media_that_the_server_has_are_only_named() -> None:
    prompt = Prompt((Audio(sound(1)), "and", Audio(sound(2))), VITA)
    names = Names()
    first, text, second = content(prompt, "", names, ())
    again = content(prompt, "", names, {first["uuid"]})
    assert again == [{"type": "input_audio", "input_audio": None, "uuid": first["uuid"]}, text, second]
    assert [is_only_named(part) for part in again] == [True, False, False]


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


async def answered(instance: RemoteInstance, query: Query) -> tuple[Verdict, str]:
    async with aclosing(instance.answer(query)) as stream:
        first, *deltas = [item async for item in stream]
    assert isinstance(first, Verdict)
    return first, "".join(delta for delta in deltas if isinstance(delta, str))


async def until(condition: Any, limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def stopped(instance: RemoteInstance) -> None:
    instance.close()
    await asyncio.sleep(0)


async def test_an_address_where_nobody_listens_is_named_to_the_operator_only(caplog: pytest.LogCaptureFixture) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    instance = RemoteInstance("a", address, RemoteConfig())
    with pytest.raises(PartFailed, match="a: cannot be reached"):
        await instance.warm(Query((), ()))
    assert not instance.healthy
    assert address in caplog.text
    with pytest.raises(PartFailed, match="a: cannot be reached") as failure:
        await answered(instance, Query((), (sound(1),)))
    assert address not in failure.value.message
    await stopped(instance)


class Node:
    """Enough of an HTTP server to be asked for state tokens, and to be rude."""

    def __init__(self, *, broken: bool = False) -> None:
        """`broken`: it is well, and no completion succeeds."""
        self._broken = broken
        self.connections = 0
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        before, begun, *with_state = beginnings(VITA)
        self._ids = {before: [2, 9], begun: [2, 9]} | {text: [2, 9, 3 + n] for n, text in enumerate(with_state)}

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncGenerator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", port):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection when another comes over it."""
        self.connections += 1
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split()[0]) if "content-length" in head else 0
        body = json.loads(await reader.readexactly(length) or "{}")
        status, answer = "200 OK", b"{}"
        if "chat" in head and self._broken:
            status, answer = "500 Error", b'{"error": "out of order"}'
        elif "chat" in head:
            self.asked.set()
            await reader.read(1)  # and never answer
            self.left.set()
        if "tokenize" in head:
            text = body["messages"][0]["content"][0]["text"]
            answer = json.dumps({"tokens": self._ids[text], "max_model_len": 2048}).encode()
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(answer)) + answer)
        await reader.read(1)
        writer.close()


async def test_a_kept_connection_that_the_server_has_closed_is_no_failure() -> None:
    port, node = free_port(), Node()
    instance = RemoteInstance("a", f"http://127.0.0.1:{port}", RemoteConfig())
    async with node.listening(port):
        served = await instance._look()
        await stopped(instance)
    assert served.states.deciding == {"query": 3, "noise": 4, "typed": 5}
    assert node.connections == len(beginnings(VITA))


async def test_an_utterance_that_is_withdrawn_before_its_verdict_closes_its_connection() -> None:
    port, node = free_port(), Node()
    instance = RemoteInstance("a", f"http://127.0.0.1:{port}", RemoteConfig())
    async with node.listening(port):
        asking = asyncio.create_task(answered(instance, Query((), (sound(1),))))
        await node.asked.wait()
        assert not node.left.is_set()
        asking.cancel()
        await asyncio.wait_for(node.left.wait(), 5)
        await stopped(instance)


async def test_a_server_that_comes_up_is_noticed_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_http, "WATCH_S", 0.01)
    port = free_port()
    instance = RemoteInstance("a", f"http://127.0.0.1:{port}", RemoteConfig())
    await Pool([instance]).warm()  # no error: it may come up before anybody speaks
    assert not instance.healthy
    async with Node().listening(port):
        await until(lambda: instance.healthy)
    await until(lambda: not instance.healthy)
    await stopped(instance)


async def test_a_probe_of_a_server_that_is_well_and_answers_nothing_fails() -> None:
    port, node = free_port(), Node(broken=True)
    instance = RemoteInstance("a", f"http://127.0.0.1:{port}", RemoteConfig())
    async with node.listening(port):
        with pytest.raises(PartFailed, match="a: 500, out of order"):
            await instance.warm(Query((), ()))
        assert instance.healthy
        await stopped(instance)


async def test_whatever_goes_wrong_while_a_server_is_watched_it_is_watched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    instance = RemoteInstance("a", f"http://127.0.0.1:{port}", RemoteConfig())
    async with Node().listening(port):
        await instance._look()
        monkeypatch.setattr(remote_http, "WATCH_S", 0.01)
        asked = instance._server._http.get

        async def go_wrong(*_: object, **__: object) -> httpx2.Response:
            raise RuntimeError("nobody has thought of this")

        monkeypatch.setattr(instance._server._http, "get", go_wrong)
        await until(lambda: not instance.healthy)
        monkeypatch.setattr(instance._server._http, "get", asked)
        await until(lambda: instance.healthy)
        await stopped(instance)


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
    await stopped(instance)


def golden(name: str) -> Utterance:
    return Utterance(1, MODEL[f"src.{name}"])


def softmax_of_states(case: str) -> list[float]:
    shares = np.exp(MODEL[f"{case}.logprobs_last"][3:6].astype(np.float64))
    return list(shares / shares.sum())


def probabilities(verdict: Verdict) -> list[float]:
    return [verdict.p1, verdict.p2, verdict.p3]


def said(text: str) -> Utterance:
    return Utterance(2, text=text)


LOOKING = tuple(MODEL[f"src.frame{n}"] for n in range(4))
LIVE: dict[str, Query] = {
    "audio": Query((), (golden("wave_mid"),)),
    "video_audio": Query((), (golden("wave_long"),), frames=LOOKING),
    "history_two_audios": Query(
        (UserMessage(None, (golden("wave_short"),)), AssistantMessage("the boat is", cut=True)),
        (golden("wave_mid"),),
        frames=LOOKING,
    ),
}
"""The recorded cases that are live talk."""


@real
@pytest.mark.parametrize("case", LIVE)
async def test_the_verdict_is_the_originals(instance: RemoteInstance, case: str) -> None:
    for _ in range(2):  # the second time media are only named, and the prompt is in the prefix cache
        verdict, _ = await answered(instance, LIVE[case])
        assert probabilities(verdict) == pytest.approx(softmax_of_states(case), abs=1e-4)
    assert instance.healthy


class Request:
    """A request put by hand, to see what the server makes of a prompt."""

    def __init__(self, server: VllmServer, query: Query, begun: str) -> None:
        prompt = write(query, Manner(VITA), 2000, lambda prompt: 0).prompt
        self._body = {
            "messages": [{"role": "user", "content": content(prompt, begun, Names(), ())}],
            "chat_template_kwargs": {"verbatim": True},
            "temperature": 0,
            "max_tokens": 12,
            "return_token_ids": True,
        }
        self._server = server

    async def send(self) -> tuple[list[int], list[int], str]:
        """Token ids of the prompt with its media expanded, of the answer, and its text."""
        headers = {"Authorization": "Bearer sesame"}
        async with httpx2.AsyncClient(base_url=self._server.address, headers=headers, timeout=60) as client:
            response = await client.post("/v1/chat/completions", json=self._body)
        answer = response.json()
        (choice,) = answer["choices"]
        return answer["prompt_token_ids"], choice["token_ids"], choice["message"]["content"]


@real
@pytest.mark.parametrize("case", LIVE)
async def test_the_model_reads_the_originals_tokens_and_writes_them(server: VllmServer, case: str) -> None:
    read, written, _ = await Request(server, LIVE[case], "").send()
    assert read == MODEL[f"{case}.expanded_ids"].tolist()
    assert written == CASES[case]["greedy_ids"]


@real
async def test_the_answer_goes_on_behind_the_state_token(server: VllmServer, instance: RemoteInstance) -> None:
    read, _, text = await Request(server, LIVE["audio"], "<1>").send()
    assert read == [*MODEL["audio.expanded_ids"].tolist(), 3]
    _, answer = await answered(instance, LIVE["audio"])
    assert answer == text.lstrip(" ") != ""


@real
async def test_an_answer_that_another_instance_began_goes_on_from_its_text(
    server: VllmServer, instance: RemoteInstance
) -> None:
    async with aclosing(instance.answer(replace(LIVE["audio"], answer_so_far="the boat is"))) as stream:
        items = [item async for item in stream]
    assert not any(isinstance(item, Verdict) for item in items), "it was judged there"
    assert (
        "".join(item for item in items if isinstance(item, str))
        == (await Request(server, LIVE["audio"], "<1>the boat is").send())[2]
        != ""
    )


@real
async def test_a_typed_query_is_not_judged(server: VllmServer, instance: RemoteInstance) -> None:
    await instance.warm(Query((), ()))
    before = server.counted("vllm:request_success_total")
    verdict, answer = await answered(instance, Query((), (said("and you?"),)))
    assert verdict == Verdict(0.0, 0.0, 1.0)
    assert answer == (await Request(server, Query((), (said("and you?"),)), "").send())[2]
    assert server.counted("vllm:request_success_total") == before + 2  # one of them by hand


@real
async def test_a_warmed_prompt_is_in_the_cache_when_the_sound_comes(
    server: VllmServer, instance: RemoteInstance
) -> None:
    reply = AssistantMessage("Something long and new that nobody has ever said before. " * 8)
    history = (UserMessage(None, (golden("wave_long"),)), reply)
    await instance.warm(Query(history, ()))
    before = server.counted("vllm:prefix_cache_hits_total")
    async with aclosing(instance.answer(Query(history, (golden("wave_mid"),)))) as stream:
        assert isinstance(await anext(stream), Verdict)
        hits = server.counted("vllm:prefix_cache_hits_total") - before
    assert hits > len(MODEL["audio.prompt_ids"]) + len(reply.text) / 4  # more than what all prompts begin with


@real
@pytest.mark.parametrize("query", ["typed", "spoken"])
async def test_closing_the_stream_aborts_the_answer(server: VllmServer, query: str) -> None:
    instance = RemoteInstance("a", server.address, RemoteConfig(api_key=SecretStr("sesame"), max_tokens=1500))
    asked = Query((), (said("talk on and on"),)) if query == "typed" else LIVE["audio"]
    done, written = server.counted("vllm:request_success_total"), server.counted("vllm:generation_tokens_total")
    stream = instance.answer(asked)
    assert isinstance(await anext(stream), Verdict)
    assert await anext(stream)
    await until(lambda: server.running() == 1)
    await stream.aclose()
    await until(lambda: server.running() == 0)
    assert server.counted("vllm:generation_tokens_total") - written < 1400
    assert server.counted("vllm:request_success_total") - done == (query == "spoken")  # the verdict's
    await stopped(instance)


@real
async def test_unusable_media_fail_their_turn_only(server: VllmServer, instance: RemoteInstance) -> None:
    endless = Utterance(1, np.zeros(16_000 * 250, np.float32))
    broken = Utterance(1, np.full(16_000, np.nan, np.float32))
    with pytest.raises(PartFailed, match="200 s"):
        await answered(instance, Query((), (endless,)))
    with pytest.raises(PartFailed, match=r"a: 400, .*no numbers"):
        await answered(instance, Query((), (broken,)))
    with pytest.raises(PartFailed, match="the image is empty"):
        await answered(instance, replace(LIVE["audio"], frames=(np.zeros((0, 5, 3), np.uint8),)))
    assert instance.healthy
    verdict, _ = await answered(instance, LIVE["audio"])
    assert probabilities(verdict) == pytest.approx(softmax_of_states("audio"), abs=1e-4)


@real
async def test_media_that_the_server_forgot_are_sent_again(instance: RemoteInstance) -> None:
    samples = MODEL["src.wave_mid"].copy()
    instance._sent[instance._names.of(samples)] = None  # it never heard of these
    verdict, _ = await answered(instance, Query((), (Utterance(1, samples),)))
    assert probabilities(verdict) == pytest.approx(softmax_of_states("audio"), abs=1e-4)


@real
async def test_a_wrong_key_is_told(server: VllmServer) -> None:
    instance = RemoteInstance("a", server.address, RemoteConfig(api_key=SecretStr("open")))
    with pytest.raises(PartFailed, match="401, Unauthorized") as refused:
        await answered(instance, LIVE["audio"])
    assert "open" not in str(refused.value)
    await stopped(instance)


@real
def test_the_gateway_talks_over_two_addresses(server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITA_DUPLEX_ENGINE__REMOTE__API_KEY", "sesame")
    monkeypatch.setenv("VITA_DUPLEX_ENGINE__REMOTE__URLS", f"[{server.address}, {server.address}]")
    settings = ("engine.remote.max_tokens=100", "duplex.verdict_threshold=0", "vad.kind=level", "tts.kind=humming")
    question, second = (read_recording(ROOT / "tests" / "data" / f"{name}.flac") for name in ("goforward", "something"))
    with served("vita-remote", *(word for setting in settings for word in ("--set", setting))) as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        conversation = asyncio.run(converse(url, question, second, at_s=0.3, limit_s=60))
    assert conversation.errors == []
    assert [verdict.accepted for verdict in conversation.verdicts] == [True, True]
    assert [reply.status for reply in conversation.replies.values()] == ["cancelled", "completed"]
    assert conversation.swaps == 1


@real
async def test_a_server_that_dies_fails_its_turns_and_is_not_healthy(server: VllmServer) -> None:
    """The last one: it kills the server of all of them."""
    instance = RemoteInstance("a", server.address, RemoteConfig(api_key=SecretStr("sesame"), max_tokens=1500))
    stream = instance.answer(Query((), (said("talk on and on"),)))
    await anext(stream)
    assert await anext(stream)
    assert instance.healthy
    server.kill()
    with pytest.raises(PartFailed, match="a: cannot be reached"):
        async for _ in stream:
            pass
    assert not instance.healthy
    with pytest.raises(PartFailed, match="cannot be reached"):
        await answered(instance, LIVE["audio"])
    await stopped(instance)
