"""Two VITA engines in one server, under the duplex core and over the WebSocket: verdicts decide, roles swap.

The tiny checkpoint has random weights, so what it judges is arbitrary, but always the same: of what is said first it
takes a chirp of 1.6 s (`<1>` 0.999) and turns down a tone of 0.6 s (`<1>` 0.11, `<2>` 0.57).
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sounds
from served import served

from vita_duplex.client.conversation import Conversation
from vita_duplex.client.recording import Recording, to_pcm
from vita_duplex.client.talk import converse

pytestmark = pytest.mark.real

TESTS = Path(__file__).parent
TINY = [
    f"engine.vita.model={TESTS / 'golden' / 'tiny_vita'}",
    "engine.vita.tensor_parallel_size=1",
    "engine.vita.dtype=float32",
    "engine.vita.max_tokens=64",
    "engine.vita.kv_cache_mib=64",
    "duplex.first_limit_s=20",
    "duplex.stall_limit_s=20",
    "duplex.verdict_deadline_ms=6000",  # two engines and everything else share two cores here
    "vad.kind=level",
    "voice.kind=humming",
]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served("vita-4gpu", *(part for setting in TINY for part in ("--set", setting))) as port:
        yield port


CHIRP, TONE = sounds.chirp(1.6), sounds.tone(600.0, 0.6)


def talk(port: int, *said: sounds.Samples) -> Conversation:
    """Say something and, half a second into the answer, something else."""
    recordings = [Recording(f"sound {number}", to_pcm(samples)) for number, samples in enumerate(said)]
    return asyncio.run(converse(f"ws://127.0.0.1:{port}/v1/realtime", *recordings, at_s=0.5, limit_s=60))


def test_a_query_is_answered_in_sound(port: int) -> None:
    conversation = talk(port, CHIRP)
    assert [verdict.accepted for verdict in conversation.verdicts] == [True]
    assert conversation.statuses == ["completed"]
    (reply,) = conversation.replies.values()
    assert reply.text
    assert not any(token in reply.text for token in ("<1>", "<2>", "<3>", "</s>"))
    assert conversation.heard_samples(reply.id) > 0
    assert conversation.swaps == 0


@pytest.mark.xfail(reason="what random weights judge hangs on the words heard by then", strict=False)
def test_a_query_into_an_answer_is_answered_by_the_other_engine(port: int) -> None:
    conversation = talk(port, CHIRP, CHIRP)
    assert [verdict.accepted for verdict in conversation.verdicts] == [True, True]
    assert conversation.statuses == ["cancelled", "completed"]
    first, second = [record.instance for record in conversation.records if record.is_reply]
    assert {first, second} == {"a", "b"}
    roles = [(roles.generator, roles.monitor) for roles in conversation.roles]
    assert roles == [(first, second), (second, first)]
    assert conversation.swaps == 1
    assert conversation.stale_samples == 0


def test_noise_gets_no_answer(port: int) -> None:
    conversation = talk(port, TONE)
    (verdict,) = conversation.verdicts
    assert (verdict.accepted, verdict.state) == (False, "<2>")
    assert conversation.replies == {}
