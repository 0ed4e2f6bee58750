"""`/v1/chat/completions` over the tiny VITA checkpoint, asked by OpenAI's own client: in our own server's process, and
passed on to a vLLM server. Prompts, tokens and verdicts are those recorded from the original."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
import torch
from openai import OpenAI
from openai.types.chat import ChatCompletion
from PIL import Image
from websockets.sync.client import connect

from tests.server.http.test_chat import film, url
from tests.support.paths import DATA
from tests.support.served import TINY_VITA, served
from tests.support.tiny_vita import CASES, picture, source
from tests.support.vllm_server import vllm_server
from vita_duplex.models.tiling import MAX_PIXELS

pytestmark = pytest.mark.real

TEXT = {"type": "text", "text": "what is this?"}
TONE = source("wave_mid").numpy()
STATES = [3, 4, 5]
"""Ids of `<1>`, `<2>`, `<3>` in the tiny checkpoint."""


@pytest.fixture(scope="module", params=["in process", "remote"])
def client(request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    if request.param == "remote":
        with vllm_server() as remote:
            settings = (f"engine.remote.urls=[{remote.address}]", "vad.kind=level", "tts.kind=humming")
            with served("vita-remote", *flags(*settings)) as port:
                yield opened(port)
    else:
        with served("vita-4gpu", *flags(*TINY_VITA, "engine.instances=1")) as port:
            yield opened(port)


def flags(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def opened(port: int) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)


def shown(image: Image.Image) -> dict[str, Any]:
    png = io.BytesIO()
    image.save(png, format="PNG")
    return url("image_url", png.getvalue(), "image/png")


def heard(samples: Any, rate: int = 16_000, subtype: str = "FLOAT") -> dict[str, Any]:
    wave = io.BytesIO()
    soundfile.write(wave, samples, rate, format="WAV", subtype=subtype)
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(wave.getvalue()).decode(), "format": "wav"}}


def ask(client: OpenAI, *content: Any, **more: Any) -> ChatCompletion:
    return client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": list(content)}], **{"max_tokens": 6} | more
    )


def recorded(case: str) -> list[float]:
    """Probabilities of the state tokens where the answer begins."""
    return list(torch.softmax(CASES[case].tensor("logits_last16")[-1, STATES], 0).tolist())


def verdict(answer: Any) -> Any:
    return answer.model_extra["vita"]


QUESTIONS: dict[str, list[Any]] = {
    "text": [{"type": "text", "text": "the user is in the boat and you? 你好"}],
    "image": [shown(picture("single")), TEXT],
    "image_audio": [heard(TONE), shown(picture("single"))],
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_a_chat_is_read_and_judged_as_recorded(client: OpenAI, case: str) -> None:
    answer = ask(client, *QUESTIONS[case])
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(CASES[case].ids("expanded_ids"))
    [choice] = answer.choices
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.completion_tokens == 6 or choice.finish_reason == "stop"
    if case == "text":  # in the training data such a sample has no state tokens
        assert verdict(answer) is None
    else:
        told = verdict(answer)
        assert [told["p1"], told["p2"], told["p3"]] == pytest.approx(recorded(case), abs=1e-4)
    assert not any(token in (choice.message.content or "") for token in ("<1>", "<2>", "<3>", "</s>"))


def test_streamed_and_whole_answers_are_the_same(client: OpenAI) -> None:
    whole = ask(client, *QUESTIONS["image_audio"], max_tokens=12)
    stream = client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": QUESTIONS["image_audio"]}],
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        whole.choices[0].message.content
    )
    assert whole.choices[0].message.content
    assert verdict(chunks[0]) == pytest.approx(verdict(whole), abs=1e-4)
    assert chunks[-1].usage == whole.usage


def test_films_and_earlier_media_are_seen(client: OpenAI, tmp_path: Path) -> None:
    shown_film = url("video_url", film(tmp_path), "video/mp4")
    answer = ask(client, shown_film, TEXT)
    assert answer.usage is not None
    alone = answer.usage.prompt_tokens
    assert alone > 6 * 4, "six seconds are six frames of four tokens in this checkpoint"
    answer = client.chat.completions.create(
        model="any",
        messages=[
            {"role": "user", "content": [shown_film, TEXT]},  # type: ignore[list-item]
            {"role": "assistant", "content": "the boat"},
            {"role": "user", "content": [heard(TONE)]},  # type: ignore[list-item]
        ],
        max_tokens=4,
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > alone
    assert verdict(answer)["p1"] > 0


def test_a_film_is_seen_and_half_of_one_is_refused(client: OpenAI, tmp_path: Path) -> None:
    h264 = (DATA / "film-h264.mp4").read_bytes()
    for whole in (h264, film(tmp_path, frames=1)):
        assert ask(client, url("video_url", whole, "video/mp4"), TEXT).choices
    for half in (h264[: len(h264) // 2], film(tmp_path)[:2000]):
        with pytest.raises(openai.BadRequestError) as error:
            ask(client, url("video_url", half, "video/mp4"), TEXT)
        assert error.value.code == "invalid_video"


def test_sampling_is_as_asked(client: OpenAI) -> None:
    hot = [ask(client, TEXT, temperature=2, seed=seed, max_tokens=8).choices[0].message.content for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    greedy = ask(client, *QUESTIONS["text"], max_tokens=12).choices[0].message.content or ""
    word = greedy.split()[1]
    stopped = ask(client, *QUESTIONS["text"], max_tokens=12, stop=[word]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (greedy[: greedy.index(word)], "stop")


LARGE = Image.new("1", (20_000, MAX_PIXELS // 10_000))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([heard(TONE[:1000])], "audio of 1000 samples"),
        ([heard(np.zeros(600 * 8_000, np.float32), 8_000, "PCM_16")], "too long"),
        ([shown(LARGE)], "the image is too large"),
        ([url("image_url", b"no picture", "image/png")], "cannot be decoded"),
        ([url("video_url", b"no film", "video/mp4")], "cannot be decoded"),
        ([shown(picture("single"))] * 65, "64"),
        ([{"type": "text", "text": "a " * 20_000}], "context length"),
    ],
    ids=["short", "long", "large", "no picture", "no film", "many", "wordy"],
)
def test_what_cannot_be_answered_is_the_clients_fault(client: OpenAI, content: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, *content)
    assert error.value.type == "invalid_request_error"
    assert said in error.value.message
    told = verdict(ask(client, *QUESTIONS["image_audio"]))
    assert told["p1"] == pytest.approx(recorded("image_audio")[0], abs=1e-4)


def test_placeholders_and_state_tokens_that_somebody_types_are_words(client: OpenAI) -> None:
    answer = ask(client, {"type": "text", "text": "<1><image><audio><video></s>"})
    assert answer.choices[0].message.content is not None
    assert verdict(answer) is None


def test_a_turn_of_the_websocket_tells_its_usage(client: OpenAI) -> None:
    with connect(str(client.base_url).replace("http", "ws") + "realtime") as socket:
        for event in (
            {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text"]}},
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and you?"}]},
            },
            {"type": "response.create"},
        ):
            socket.send(json.dumps(event))
        while (event := json.loads(socket.recv(60)))["type"] != "response.done":
            pass
    usage = event["response"]["usage"]
    assert usage["input_tokens"] > 5
    assert usage["output_tokens"] > 0
