"""A chat as a request to vLLM, and what is read in its answer."""

import base64
import io
import math

import numpy as np
import pytest
import soundfile

from vita_duplex.engine.instances.vita_chat import Reading, body
from vita_duplex.engine.messages import Chat, ChatAudio, ChatImage, ChatMessage, ChatVideo, Sampling, Verdict
from vita_duplex.models.prompts import State, wording
from vita_duplex.models.tokens import StateTokens

ONE = StateTokens({"query": (3,), "noise": (4,), "typed": (5,)})
"""Each state token is one id."""
TWO = StateTokens({"query": (7, 3), "noise": (7, 4), "typed": (7, 5)})
"""They begin alike."""
WORDS = wording("vita-1.0")
SOUND = ChatAudio(np.linspace(-1, 1, 2000, dtype=np.float32))
SPOKEN = Chat((ChatMessage("user", (SOUND,)),))
TYPED = Chat((ChatMessage("user", ("hello",)),))


def row(p1: float, p2: float, p3: float) -> dict[State, float]:
    return {"query": math.log(p1), "noise": math.log(p2), "typed": math.log(p3)}


SURE, UNSURE = row(0.8, 0.1, 0.1), row(0.4, 0.3, 0.3)


def test_the_verdict_comes_first_and_the_state_token_is_no_text() -> None:
    reading = Reading(SPOKEN, WORDS, ONE)
    assert reading.push("<1", [SURE]) == [Verdict(pytest.approx(0.8), pytest.approx(0.1), pytest.approx(0.1))]
    assert reading.push("> Well, a <b", [UNSURE]) == ["Well, a <b"]
    assert (reading.push(" <", [UNSURE]), reading.finish()) == ([" "], "<")


def test_where_state_tokens_begin_alike_the_verdict_falls_on_the_second() -> None:
    reading = Reading(SPOKEN, WORDS, TWO)
    assert reading.push("So", [UNSURE]) == [], "text waits for the verdict"
    assert reading.push(" it is", [SURE]) == [
        Verdict(pytest.approx(0.8), pytest.approx(0.1), pytest.approx(0.1)),
        "So it is",
    ]


def test_an_answer_without_media_before_it_is_not_judged() -> None:
    reading = Reading(TYPED, WORDS, ONE)
    assert reading.push("Hello", [SURE]) == ["Hello"]
    earlier = Chat((*SPOKEN.messages, ChatMessage("assistant", ("so",)), *TYPED.messages))
    assert isinstance(Reading(earlier, WORDS, ONE).push("", [SURE])[0], Verdict)


def test_an_answer_that_ends_before_its_verdict_is_told_all_the_same() -> None:
    reading = Reading(SPOKEN, WORDS, TWO)
    assert (reading.push("So", [UNSURE]), reading.finish()) == ([], "So")


def test_a_chat_becomes_a_request_with_the_very_samples() -> None:
    parts = ("look", ChatImage("data:image/png;base64,AA=="), ChatVideo("data:video/mp4;base64,AA=="), SOUND)
    asked = body(Chat((ChatMessage("system", ("be brief",)), ChatMessage("user", parts))), TWO, 512)
    system, user = asked.pop("messages")
    assert system == {"role": "system", "content": [{"type": "text", "text": "be brief"}]}
    text, picture, film, sound = user["content"]
    assert text == {"type": "text", "text": "look"}
    assert picture == {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert film == {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA=="}}
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound["input_audio"]["data"])), dtype="float32")
    assert rate == 16_000
    np.testing.assert_array_equal(samples, SOUND.samples)
    assert asked == {
        "max_completion_tokens": 512,
        "temperature": 0,
        "repetition_penalty": 1,
        "logprobs": True,
        "logprob_token_ids": [3, 4, 5],
    }


def test_wishes_go_along() -> None:
    asked = body(Chat(TYPED.messages, Sampling(9, 0.5, 0.9, 7, ("x",))), ONE, 512)
    wished = {"max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["x"]}
    assert {name: asked[name] for name in wished} == wished
