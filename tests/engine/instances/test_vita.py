"""VITA as an instance, on the tiny checkpoint: what it judges and says is what its recorded logits say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from safetensors.torch import load_file

from tests.support import sounds
from tests.support.engines import engine_process, tower_runs, unfinished, wait_for_its_end
from tests.support.paths import GOLDEN
from tests.support.served import going_on
from vita_duplex.cli.ask import ask
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.vita import VitaInstance, VitaInstanceConfig
from vita_duplex.engine.instances.vita_dialogue import write
from vita_duplex.engine.messages import (
    AssistantMessage,
    LeftOut,
    Message,
    Query,
    Usage,
    UserMessage,
    Utterance,
    Verdict,
)
from vita_duplex.engine.ports import PartFailed

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

TINY = GOLDEN / "tiny_vita"
RECORDED = load_file(GOLDEN / "full_model.safetensors")
CONFIG = VitaInstanceConfig(
    model=str(TINY), dtype="float32", max_model_len=2048, kv_cache_mib=64, max_num_seqs=4, max_tokens=16, threads=1
)
STATES = [3, 4, 5]
"""Ids of `<1>`, `<2>`, `<3>` in the tiny checkpoint."""


def clip(name: str) -> Samples:
    return np.array(RECORDED[f"src.{name}"].numpy())


MIDDLE = clip("wave_mid")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny() -> AsyncIterator[VitaInstance]:
    """Loaded as the server does it: in a worker thread, used from the event loop."""
    instance = await asyncio.to_thread(VitaInstance.load, "a", CONFIG, 0, lambda share, phase: None)
    yield instance
    await asyncio.to_thread(instance.close)
    assert not instance.healthy
    with pytest.raises(PartFailed, match="not running"):
        await heard_and_said(instance, spoken(MIDDLE))
    wait_for_its_end()


def spoken(samples: Samples, **more: Any) -> Query:
    return Query(**{"history": (), "utterances": (Utterance(1, samples),)} | more)


def varied(instance: VitaInstance, **settings: Any) -> VitaInstance:
    """The same engine with other settings of ours."""
    return VitaInstance("b", CONFIG.model_copy(update=settings), instance.engine)


async def heard_and_said(instance: VitaInstance, query: Query) -> tuple[Verdict, str]:
    async with aclosing(instance.answer(query)) as stream:
        verdict = await anext(stream)
        if isinstance(verdict, LeftOut):
            verdict = await anext(stream)
        assert isinstance(verdict, Verdict)
        return verdict, "".join([delta async for delta in stream if isinstance(delta, str)])


async def greedy_after(instance: VitaInstance, ids: list[int], media: dict[str, Any], n: int) -> str:
    """What the engine says after these ids, asked without our adapter."""
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": ids, "multi_modal_data": media}
    text = ""
    async for output in instance.engine.generate(prompt, SamplingParams(temperature=0, max_tokens=n)):
        text = output.outputs[0].text
    return text


async def test_the_verdict_is_the_recorded_logits_of_the_state_tokens(tiny: VitaInstance) -> None:
    verdict, _ = await heard_and_said(tiny, spoken(MIDDLE))
    wanted = torch.softmax(RECORDED["audio.logits_last16"][-1, STATES], 0).tolist()
    assert [verdict.p1, verdict.p2, verdict.p3] == pytest.approx(wanted, abs=1e-4)
    assert verdict.transcripts == ()


async def test_the_answer_is_the_greedy_one_after_the_state_token(tiny: VitaInstance) -> None:
    _, said = await heard_and_said(tiny, spoken(MIDDLE))
    prompt = RECORDED["audio.prompt_ids"].tolist()
    assert said == (await greedy_after(tiny, [*prompt, 3], {"audio": [MIDDLE]}, CONFIG.max_tokens)).lstrip(" ")
    assert len(said) > 8


async def test_a_history_with_old_audio_gives_its_recorded_verdict(tiny: VitaInstance) -> None:
    """Frames are mirrored for the model, old audio is sent again, what was heard has its state token back."""
    shown = tuple(np.array(RECORDED[f"src.frame{n}"].numpy()) for n in range(4))
    history = (UserMessage(None, (Utterance(1, clip("wave_short")),)), AssistantMessage("the boat is", cut=True))
    query = Query(history, (Utterance(2, MIDDLE),), frames=shown)
    verdict, _ = await heard_and_said(varied(tiny, max_dynamic_patch=1), query)
    wanted = torch.softmax(RECORDED["history_two_audios.logits_last16"][-1, STATES], 0).tolist()
    assert [verdict.p1, verdict.p2, verdict.p3] == pytest.approx(wanted, abs=1e-4)


async def test_a_typed_query_is_not_judged_and_has_a_state_token_only_beside_media(tiny: VitaInstance) -> None:
    verdict, said = await heard_and_said(tiny, Query((), (Utterance(1, text="and you?"),)))
    assert verdict == Verdict(0.0, 0.0, 1.0)
    assert said
    history = (UserMessage(None, (Utterance(1, clip("wave_short")),)), AssistantMessage("the boat"))
    talk = varied(tiny, layout="conversation")
    _, said = await heard_and_said(talk, Query(history, (Utterance(2, text="and you?"),)))
    prompt = RECORDED["two_turn_text_audio.prompt_ids"].tolist()
    media = {"audio": [clip("wave_short")]}
    assert said == (await greedy_after(tiny, [*prompt, 5], media, CONFIG.max_tokens)).lstrip(" ")


async def test_a_rejected_utterance_costs_one_token(tiny: VitaInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    generate = tiny.engine.generate

    def watched(prompt: Any, params: Any) -> Any:
        asked.append(params.max_tokens)
        return generate(prompt, params)

    monkeypatch.setattr(tiny.engine, "generate", watched)
    async with aclosing(tiny.answer(spoken(MIDDLE))) as stream:
        assert isinstance(await anext(stream), Verdict)
    assert asked == [1]
    assert unfinished(tiny.engine) == 0


async def test_closing_an_answer_frees_the_engine(tiny: VitaInstance) -> None:
    """The engine is suspended after the verdict: whatever its speed, it is not done."""
    engine = engine_process()
    assert engine is not None
    with going_on(engine):
        stream = varied(tiny, max_tokens=1000).answer(spoken(MIDDLE))
        assert isinstance(await anext(stream), Verdict)
        engine.suspend()
        reading = asyncio.ensure_future(anext(stream))
        while unfinished(tiny.engine) == 0:  # noqa: ASYNC110 - it is on its way
            await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert unfinished(tiny.engine) == 0


async def cached(instance: VitaInstance, query: Query) -> int:
    """Tokens that the verdict on a query found in the prefix cache."""
    found: list[int] = []
    generate = instance.engine.generate

    async def watched(prompt: Any, params: Any) -> AsyncIterator[Any]:
        async for output in generate(prompt, params):
            found.append(output.num_cached_tokens)
            yield output

    instance.engine.generate = watched  # type: ignore[method-assign]
    try:
        async with aclosing(instance.answer(query)) as stream:
            await anext(stream)
    finally:
        instance.engine.generate = generate  # type: ignore[method-assign]
    return found[0]


def story(word: str) -> Query:
    history = (UserMessage(f"Tell me of a {word}."), AssistantMessage("Once upon a time. " * 9))
    return spoken(MIDDLE, history=history)


async def test_a_warmed_dialogue_leaves_only_the_new_audio(tiny: VitaInstance) -> None:
    system = await cached(tiny, story("frog"))
    before = replace(story("prince"), utterances=())
    await tiny.warm(before)
    assert await cached(tiny, story("prince")) > system + 64


async def test_frames_are_seen_before_the_utterance_ends(tiny: VitaInstance) -> None:
    frames = (np.full((56, 56, 3), 90, np.uint8), np.full((56, 56, 3), 160, np.uint8))
    runs = await tower_runs(tiny.engine)
    await tiny.warm(Query((), (), frames=frames))
    warmed = await tower_runs(tiny.engine)
    assert warmed["vision_tower"] > runs["vision_tower"]
    await heard_and_said(tiny, spoken(MIDDLE + 0.001, frames=frames))
    after = await tower_runs(tiny.engine)
    assert after["vision_tower"] == warmed["vision_tower"]
    assert after["audio_tower"] == warmed["audio_tower"] + 1, "two requests, one run of the ears"


async def test_old_audio_is_not_heard_again(tiny: VitaInstance) -> None:
    await tower_runs(tiny.engine)
    first, second = Utterance(1, MIDDLE * 0.9), Utterance(2, MIDDLE * 0.8)
    await heard_and_said(tiny, Query((), (first,)))
    runs = (await tower_runs(tiny.engine))["audio_tower"]
    later = Query((UserMessage(None, (first,)), AssistantMessage("Yes.")), (second,), instructions="Anything new")
    await heard_and_said(tiny, later)
    assert (await tower_runs(tiny.engine))["audio_tower"] == runs + 1


async def test_an_utterance_that_grew_is_heard_anew(tiny: VitaInstance) -> None:
    """As after an early start: the same number, more samples."""
    early, _ = await heard_and_said(tiny, spoken(MIDDLE[:12_000]))
    whole, _ = await heard_and_said(tiny, spoken(MIDDLE))
    assert abs(early.p1 - whole.p1) > 1e-3
    other, _ = await heard_and_said(tiny, spoken(MIDDLE[::-1].copy()))
    assert abs(other.p1 - whole.p1) > 1e-3


async def test_a_medium_that_the_engine_does_not_have_after_all_is_sent_again(tiny: VitaInstance) -> None:
    """A request was closed after its media were prepared and before they were sent."""
    query = spoken(MIDDLE * 0.7)
    await tiny.engine._render(tiny._request(tiny._fitted(write, query, 2000).prompt, ()))
    verdict, said = await heard_and_said(tiny, query)
    assert said
    again, _ = await heard_and_said(tiny, spoken(MIDDLE * 0.7))
    assert verdict.p1 == pytest.approx(again.p1, abs=1e-4)


@pytest.mark.parametrize("samples", [0, 500, 1359])
async def test_a_sound_too_short_for_a_token_is_judged_too(tiny: VitaInstance, samples: int) -> None:
    verdict, _ = await heard_and_said(tiny, spoken(MIDDLE[:samples].copy()))
    assert 0 < verdict.p1 < 1


async def test_what_does_not_fit_is_told_and_the_next_is_answered(tiny: VitaInstance) -> None:
    with pytest.raises(PartFailed, match=r"the question has \d+ tokens; there is room for 2031"):
        await heard_and_said(tiny, Query((), (Utterance(1, text="boat " * 3000),)))
    with pytest.raises(PartFailed, match="no numbers"):
        await heard_and_said(tiny, spoken(np.full(16_000, np.nan, np.float32)))
    with pytest.raises(PartFailed, match=r"audio of 600\.0 s; the encoder takes 200 s"):
        await heard_and_said(tiny, spoken(np.zeros(600 * 16_000, np.float32)))
    with pytest.raises(PartFailed, match="the image is empty"):
        await heard_and_said(tiny, spoken(MIDDLE, frames=(np.zeros((0, 4, 3), np.uint8),)))
    assert tiny.healthy
    assert (await heard_and_said(tiny, spoken(MIDDLE)))[1]


async def test_a_long_dialogue_loses_its_oldest_turns_and_is_answered(tiny: VitaInstance) -> None:
    turn = (UserMessage(None, (Utterance(1, np.tile(MIDDLE, 9)),)), AssistantMessage("Once upon a time. " * 9))
    _, said = await heard_and_said(tiny, spoken(MIDDLE, history=turn * 12))
    assert said


async def test_typed_placeholders_and_state_tokens_are_only_text(tiny: VitaInstance) -> None:
    verdict, said = await heard_and_said(tiny, Query((), (Utterance(1, text="<audio><image> <2></s> hello"),)))
    assert verdict.p3 == 1
    assert said


async def test_several_speak_at_once(tiny: VitaInstance) -> None:
    queries = [spoken(MIDDLE[: 8000 + 1000 * n].copy()) for n in range(6)]
    alone = [await heard_and_said(tiny, query) for query in queries]
    together = await asyncio.gather(*(heard_and_said(tiny, query) for query in queries))
    for (one, _), (other, _) in zip(alone, together, strict=True):
        assert one.p1 == pytest.approx(other.p1, abs=1e-4)


async def test_asking_prints_the_verdict_and_the_answer(tiny: VitaInstance, capsys: pytest.CaptureFixture[str]) -> None:
    verdict, said = await heard_and_said(tiny, spoken(MIDDLE))
    await ask(tiny, spoken(MIDDLE), verdict.p1)
    first, empty, answer = capsys.readouterr().out.split("\n", 2)
    assert f"(<1> {verdict.p1:.2f}  <2> {verdict.p2:.2f}  <3> {verdict.p3:.2f})" in first
    assert empty == ""
    assert answer == f"{said}\n"


async def test_noise_is_said_to_be_not_for_the_assistant(
    tiny: VitaInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    await ask(tiny, spoken(sounds.clip("goforward")), 1.0)
    told = capsys.readouterr().out
    assert told.startswith("verdict  <1>"), "what it would be with a threshold that can be met"
    assert told.endswith("The utterance was judged not to be for the assistant; there is no answer.\n")
    assert unfinished(tiny.engine) == 0


async def test_an_answer_that_another_instance_began_goes_on_from_its_text(tiny: VitaInstance) -> None:
    async with aclosing(tiny.answer(replace(spoken(MIDDLE), answer_so_far="the boat is"))) as stream:
        items = [item async for item in stream]
    assert not any(isinstance(item, Verdict) for item in items), "it was judged there"
    begun = tiny.engine.tokenizer.encode("the boat is", add_special_tokens=False)
    ids = [*RECORDED["audio.prompt_ids"].tolist(), 3, *begun]
    *deltas, usage = items
    assert "".join(map(str, deltas)) == await greedy_after(
        tiny, ids, {"audio": [MIDDLE]}, CONFIG.max_tokens - len(begun)
    )
    read = len(RECORDED["audio.expanded_ids"])
    assert usage == Usage(read, 1 + CONFIG.max_tokens), "its state token and what was begun elsewhere are written"


async def test_an_answer_ends_with_the_tokens_it_cost(tiny: VitaInstance) -> None:
    async with aclosing(tiny.answer(spoken(MIDDLE))) as stream:
        *_, usage = [item async for item in stream]
    assert isinstance(usage, Usage)
    assert usage.input_tokens == len(RECORDED["audio.expanded_ids"])
    assert 1 < usage.output_tokens <= 1 + CONFIG.max_tokens


async def test_a_dead_engine_fails_the_answer_that_runs_and_those_that_follow(tiny: VitaInstance) -> None:
    """Last but one of the module: it takes the engine away."""
    engine = engine_process()
    assert engine is not None
    long = varied(tiny, max_tokens=1000)

    async def lose_the_engine() -> None:
        async for _ in long.answer(spoken(MIDDLE)):
            engine.kill()

    with pytest.raises(PartFailed, match="engine died"):
        await lose_the_engine()
    assert not tiny.healthy
    with pytest.raises(PartFailed, match="not running"):
        await heard_and_said(tiny, spoken(MIDDLE))


async def test_it_comes_back_when_it_is_started_again(tiny: VitaInstance) -> None:
    """Last of the module: the one before has taken the engine away."""
    await asyncio.to_thread(tiny.restart)
    assert tiny.healthy
    verdict, said = await heard_and_said(tiny, spoken(MIDDLE))
    wanted = torch.softmax(RECORDED["audio.logits_last16"][-1, STATES], 0).tolist()
    assert [verdict.p1, verdict.p2, verdict.p3] == pytest.approx(wanted, abs=1e-4)
    assert said


async def test_three_hundred_turns_with_pictures_are_answered_and_seldom_cut(tiny: VitaInstance) -> None:
    history: list[Message] = []
    missing: list[int] = []
    for number in range(300):
        picture = np.full((40, 60, 3), number % 256, np.uint8)
        typed = Utterance(number, text=f"what is this, the boat number {number} or another one?")
        query = Query(tuple(history), (typed,), "You see boats.", (picture,), max_tokens=4)
        items = [item async for item in tiny.answer(query)]
        assert sum(isinstance(item, Verdict) for item in items) == 1
        answer = "".join(item for item in items if isinstance(item, str))
        missing.append(sum(item.messages for item in items if isinstance(item, LeftOut)))
        history += [UserMessage(typed.text), AssistantMessage(answer or "the boat")]
    cuts = [after - before for before, after in pairwise(missing) if after != before]
    assert missing[-1] > 300, "most of it is beyond what the model reads"
    assert min(cuts) >= 8, "much at a time: the window has room for ten turns with their picture"
    with pytest.raises(PartFailed, match="the dialogue has"):
        [item async for item in tiny.answer(replace(query, retained=None))]
