"""VITA 1.0 and VITA-1.5 in one server, each with its own state tokens.

Both tiny checkpoints have random weights and judge arbitrarily; here every utterance is taken (threshold 0). What
VITA-1.5 judges is held against the original's numbers in test_vita15_model.py.
"""

import asyncio
import base64
import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import sounds
from openai import NotFoundError, OpenAI
from served import served

from vita_duplex.client.conversation import Conversation
from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import Recording, to_pcm
from vita_duplex.client.talk import converse

pytestmark = pytest.mark.real

TESTS = Path(__file__).parent
TINY = "max_tokens: 64, kv_cache_mib: 64, dtype: float32, max_model_len: 4096"
CONFIG = f"""
engine: {{kind: vita, vita: {{model: {TESTS / "golden" / "tiny_vita"}, {TINY}}}}}
models:
  vita15: {{kind: vita, instances: 2, vita: {{model: {TESTS / "golden15" / "tiny_vita15"}, {TINY}}}}}
duplex: {{verdict_threshold: 0, verdict_deadline_ms: 20000, hold_limit_s: 80, first_limit_s: 20, stall_limit_s: 20}}
vad: {{kind: level}}
voice: {{kind: humming}}
"""

CHIRP = sounds.chirp(1.6)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = tmp_path_factory.mktemp("side-by-side") / "config.yaml"
    path.write_text(CONFIG)
    with served(path) as port:
        yield port


def talk(port: int, model: str, *said: sounds.Samples) -> Conversation:
    recordings = [Recording(f"sound {number}", to_pcm(samples)) for number, samples in enumerate(said)]
    return asyncio.run(converse(f"ws://127.0.0.1:{port}/v1/realtime?model={model}", *recordings, at_s=0.5, limit_s=60))


def test_both_are_listed_and_ready(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
        assert [one["id"] for one in json.load(answer)["data"]] == ["tiny_vita", "vita15"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
        parts = json.load(answer)["parts"]
    assert {"instance a", "instance vita15 a", "instance vita15 b"} <= set(parts)


@pytest.mark.parametrize("model", ["tiny_vita", "vita15"])
def test_each_model_answers_what_it_takes_for_a_query(port: int, model: str) -> None:
    conversation = talk(port, model, CHIRP)
    (verdict,) = conversation.verdicts
    assert verdict.accepted
    (reply,) = conversation.replies.values()
    assert reply.text
    assert not any(token in reply.text for token in ("<1>", "<2>", "<3>", "☞", "☟", "☜", "</s>", "<|im_end|>"))


@pytest.mark.parametrize("model", ["tiny_vita", "vita15"])
def test_a_chat_goes_to_the_model_it_names_and_is_judged_with_its_own_state_tokens(port: int, model: str) -> None:
    wave = io.BytesIO()
    soundfile.write(wave, CHIRP, 16_000, format="WAV")
    sound = {"data": base64.b64encode(wave.getvalue()).decode(), "format": "wav"}
    messages: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}]
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=20)
        with pytest.raises(NotFoundError, match="there are tiny_vita, vita15"):
            client.chat.completions.create(model="vita2", messages=messages)
    assert answer.model == model
    assert answer.model_extra is not None
    verdict = answer.model_extra["vita"]
    assert verdict["p1"] + verdict["p2"] + verdict["p3"] == pytest.approx(1)
    assert not any(token in (answer.choices[0].message.content or "") for token in ("<1>", "<2>", "<3>", "☞", "☟", "☜"))


def test_a_model_that_is_not_there_is_refused_by_name(port: int) -> None:
    with pytest.raises(TalkError, match="no model 'vita2' here; there are tiny_vita, vita15"):
        talk(port, "vita2", CHIRP)
