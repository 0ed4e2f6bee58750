"""Two VITA engines in one server, under the duplex core and over the WebSocket: verdicts decide, roles swap."""

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.judging_by_ear import NOISE, QUERY, judging_by_ear
from tests.support.overlapping import answers, spoken_s, talk
from tests.support.paths import GOLDEN
from tests.support.served import engines, going_on, served
from vita_duplex.client.conversation import Conversation
from vita_duplex.client.recording import to_pcm
from vita_duplex.tts.text.normalise import Language, language_of, normalise
from vita_duplex.tts.voices.scripted import HummingVoice

pytestmark = pytest.mark.real

SETTINGS = [
    "engine.vita.tensor_parallel_size=1",
    "engine.vita.dtype=float32",
    "engine.vita.max_model_len=4096",
    "engine.vita.max_tokens=3072",  # so that an answer is still being spoken when somebody speaks into it
    "engine.vita.kv_cache_mib=64",
    "duplex.first_limit_s=20",
    "duplex.stall_limit_s=20",
    "duplex.verdict_deadline_ms=10000",  # two engines and everything else share two cores here
    "vad.kind=level",
    "vad.echo.guard=false",  # a tone over a hum is no speech to a canceller
    "tts.kind=humming",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    original = GOLDEN / "tiny_vita"
    model = judging_by_ear(original, tmp_path_factory.mktemp("by-ear") / "vita", states=(3, 4, 5), end=2)
    settings = [f"engine.vita.model={model}", *SETTINGS]
    with served("vita-4gpu", *(part for setting in settings for part in ("--set", setting))) as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime"
        # The first reply waits for the process that reads out; by then its engine could be done.
        talk(url, QUERY, None, lambda so_far: spoken_s(so_far, 0) > 0)
        yield url


def test_a_query_into_an_answer_is_answered_by_the_other_engine(url: str) -> None:
    processes = dict(zip("ab", engines(urlsplit(url).port or 0), strict=True))

    def stop_answering(so_far: Conversation) -> None:
        """The first answer is not done when the second query comes, however fast its engine is."""
        processes[so_far.roles[-1].generator].suspend()

    with going_on(*processes.values()):
        conversation = talk(url, QUERY, QUERY, lambda so_far: spoken_s(so_far, 1) > 1, stop_answering).conversation
    assert [(one.state, one.accepted, one.reason) for one in conversation.verdicts] == [("<1>", True, "verdict")] * 2
    first, second = answers(conversation)
    assert {first.instance, second.instance} == {"a", "b"}
    roles = [(one.generator, one.monitor) for one in conversation.roles]
    assert roles == [(first.instance, second.instance), (second.instance, first.instance)]
    assert [one.swaps for one in conversation.roles] == [0, 1]

    assert first.generated is None  # its engine was not done
    assert first.aborted is not None
    assert second.begun is not None
    assert second.verdict is not None
    assert second.floor is not None
    assert second.begun < second.verdict <= second.floor
    assert first.aborted <= second.floor  # sooner where a glance was sure before the query was over
    assert [reply.status for reply in conversation.replies.values()] == ["cancelled", "cancelled"]  # the second by us
    assert conversation.stale_samples == 0

    old, new = conversation.texts
    assert len(new) > 10
    assert new[:10] != old[:10]
    assert not any(token in old + new for token in ("<1>", "<2>", "<3>", "</s>"))


def test_noise_into_an_answer_leaves_it_as_it_is(url: str) -> None:
    listener = talk(url, QUERY, NOISE, lambda so_far: len(so_far.verdicts) == 2 and spoken_s(so_far, 0) > 4)
    conversation = listener.conversation
    verdicts = [(one.state, one.accepted, one.reason) for one in conversation.verdicts]
    assert verdicts == [("<1>", True, "verdict"), ("<2>", False, "verdict")]
    assert len(conversation.roles) == 1
    [answer] = answers(conversation)
    assert {end is not None for _, end in answer.holds} == {True}  # more than one where glances changed their mind

    [reply] = conversation.replies.values()
    spoken = asyncio.run(hummed(listener.pieces))
    as_spoken = np.abs(reply.audio - spoken[: len(reply.audio)]) <= 1
    # A sample too many or too few puts all that follow it out of step; where a part came late, it is faded in.
    assert as_spoken.mean() > 0.98, f"{as_spoken.mean():.3f} of the samples"


async def hummed(pieces: list[str]) -> NDArray[np.int32]:
    """The whole sound of an answer."""
    language: Language = "en"
    voice, samples = HummingVoice(), []
    for piece in pieces:
        language = language_of(piece, language)
        if sayable := normalise(piece, language):
            samples += [one async for one in voice.synthesise(sayable)]
    return to_pcm(np.concatenate(samples)).astype(np.int32)


def test_noise_gets_no_answer(url: str) -> None:
    conversation = talk(url, NOISE, None, lambda so_far: bool(so_far.verdicts)).conversation
    [verdict] = conversation.verdicts
    assert (verdict.state, verdict.accepted) == ("<2>", False)
    assert conversation.replies == {}
