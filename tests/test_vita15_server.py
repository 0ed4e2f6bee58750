"""VITA 1.0 and VITA-1.5 in one server, each with its own state tokens.

Both tiny checkpoints have random weights and judge arbitrarily; here every utterance is taken (threshold 0). What
VITA-1.5 judges is held against the original's numbers in test_vita15_model.py.
"""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import sounds
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


def test_a_model_that_is_not_there_is_refused_by_name(port: int) -> None:
    with pytest.raises(TalkError, match="no model 'vita2' here; there are tiny_vita, vita15"):
        talk(port, "vita2", CHIRP)
