"""VITA 1.0 and VITA-1.5 in one server, each with its own state tokens; of 1.5 two engines, which swap roles."""

import base64
import io
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import soundfile
from openai import NotFoundError, OpenAI

from tests.support.judging_by_ear import NOISE, QUERY, judging_by_ear
from tests.support.overlapping import answers, spoken_s, talk
from tests.support.paths import TESTS
from tests.support.served import engines, going_on, served
from vita_duplex.client.conversation import Conversation
from vita_duplex.client.errors import TalkError

pytestmark = pytest.mark.real

SETTINGS = "max_tokens: 2048, kv_cache_mib: 64, dtype: float32, max_model_len: 4096"
# Three engines and everything else share two cores here.
DUPLEX = "{verdict_deadline_ms: 20000, first_limit_s: 20, stall_limit_s: 20}"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("side-by-side")
    vita = judging_by_ear(TESTS / "golden" / "tiny_vita", folder / "tiny_vita", states=(3, 4, 5), end=2)
    vita15 = judging_by_ear(TESTS / "golden15" / "tiny_vita15", folder / "vita15", states=(315, 291, 267), end=492)
    (folder / "config.yaml").write_text(f"""
engine: {{kind: vita, vita: {{model: {vita}, {SETTINGS}}}}}
models:
  vita15: {{kind: vita, instances: 2, vita: {{model: {vita15}, {SETTINGS}}}}}
duplex: {DUPLEX}
vad: {{kind: level, echo: {{guard: false}}}}
tts: {{kind: humming}}
""")
    with served(folder / "config.yaml") as port:
        # The first reply waits for the process that reads out; by then its engine could be done.
        talk(of_model(f"127.0.0.1:{port}", "vita15"), QUERY, None, lambda so_far: spoken_s(so_far, 0) > 0)
        yield f"127.0.0.1:{port}"


def of_model(url: str, model: str) -> str:
    return f"ws://{url}/v1/realtime?model={model}"


def test_both_are_listed_and_ready(url: str) -> None:
    with urllib.request.urlopen(f"http://{url}/v1/models") as answer:
        assert [one["id"] for one in json.load(answer)["data"]] == ["tiny_vita", "vita15"]
    with urllib.request.urlopen(f"http://{url}/ready") as answer:
        parts = json.load(answer)["parts"]
    assert {"instance a", "instance vita15 a", "instance vita15 b"} <= set(parts)


@pytest.mark.parametrize("model", ["tiny_vita", "vita15"])
def test_each_model_answers_what_it_takes_for_a_query(url: str, model: str) -> None:
    conversation = talk(of_model(url, model), QUERY, None, lambda so_far: spoken_s(so_far, 0) > 1).conversation
    [verdict] = conversation.verdicts
    assert (verdict.state, verdict.accepted) == ("<1>", True)
    [text] = conversation.texts
    assert text
    assert not any(token in text for token in ("<1>", "<2>", "<3>", "☞", "☟", "☜", "</s>", "<|im_end|>"))


@pytest.mark.parametrize("model", ["tiny_vita", "vita15"])
def test_neither_answers_noise(url: str, model: str) -> None:
    conversation = talk(of_model(url, model), NOISE, None, lambda so_far: bool(so_far.verdicts)).conversation
    [verdict] = conversation.verdicts
    assert (verdict.state, verdict.accepted) == ("<2>", False)
    assert conversation.replies == {}


def test_a_query_into_an_answer_is_answered_by_the_other_engine(url: str) -> None:
    names = ("a", "vita15 a", "vita15 b")
    processes = dict(zip(names, engines(int(url.rpartition(":")[2])), strict=True))

    def stop_answering(so_far: Conversation) -> None:
        """The first answer is not done when the second query comes, however fast its engine is."""
        processes[so_far.roles[-1].generator].suspend()

    def enough(so_far: Conversation) -> bool:
        return spoken_s(so_far, 1) > 1

    with going_on(*processes.values()):
        conversation = talk(of_model(url, "vita15"), QUERY, QUERY, enough, stop_answering).conversation
    assert [(one.state, one.accepted, one.reason) for one in conversation.verdicts] == [("<1>", True, "verdict")] * 2
    first, second = answers(conversation)
    assert {first.instance, second.instance} == {"vita15 a", "vita15 b"}
    roles = [(one.generator, one.monitor) for one in conversation.roles]
    assert roles == [(first.instance, second.instance), (second.instance, first.instance)]
    assert first.generated is None  # its engine was not done
    assert [reply.status for reply in conversation.replies.values()] == ["cancelled", "cancelled"]  # the second by us
    assert conversation.stale_samples == 0
    old, new = conversation.texts
    assert new[:10] != old[:10]


def test_noise_into_an_answer_lets_it_go_on(url: str) -> None:
    def enough(so_far: Conversation) -> bool:
        return len(so_far.verdicts) == 2 and spoken_s(so_far, 0) > 4

    conversation = talk(of_model(url, "vita15"), QUERY, NOISE, enough).conversation
    assert [(one.state, one.accepted) for one in conversation.verdicts] == [("<1>", True), ("<2>", False)]
    assert len(conversation.roles) == 1
    [answer] = answers(conversation)
    assert {end is not None for _, end in answer.holds} == {True}  # more than one where glances changed their mind


@pytest.mark.parametrize("model", ["tiny_vita", "vita15"])
def test_a_chat_goes_to_the_model_it_names_and_is_judged_with_its_own_state_tokens(url: str, model: str) -> None:
    wave = io.BytesIO()
    soundfile.write(wave, QUERY, 16_000, format="WAV")
    sound = {"data": base64.b64encode(wave.getvalue()).decode(), "format": "wav"}
    messages: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}]
    with OpenAI(base_url=f"http://{url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=20)
        with pytest.raises(NotFoundError, match="there are tiny_vita, vita15"):
            client.chat.completions.create(model="vita2", messages=messages)
    assert answer.model == model
    assert answer.model_extra is not None
    verdict = answer.model_extra["vita"]
    assert verdict["p1"] + verdict["p2"] + verdict["p3"] == pytest.approx(1)
    assert not any(token in (answer.choices[0].message.content or "") for token in ("<1>", "<2>", "<3>", "☞", "☟", "☜"))


def test_a_model_that_is_not_there_is_refused_by_name(url: str) -> None:
    with pytest.raises(TalkError, match="no model 'vita2' here; there are tiny_vita, vita15"):
        talk(of_model(url, "vita2"), QUERY, None, lambda so_far: True)
