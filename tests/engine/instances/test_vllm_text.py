"""A language model in vLLM: the real small one, and the lines around it that need none."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import pytest_asyncio
from pydantic import ValidationError

from tests.support.engines import engine_process, unfinished, wait_for_its_end
from tests.support.served import going_on
from vita_duplex.engine.instances.template import merge_roles, plain_dialogue
from vita_duplex.engine.instances.text_model import TemplateMessage
from vita_duplex.engine.instances.vllm_engine import VllmEngine, check_model, set_environment
from vita_duplex.engine.instances.vllm_text import VllmText, VllmTextConfig, sampling_defaults
from vita_duplex.engine.messages import Call, CallMessage, Finished, Sampling, Tool, Tools, Usage
from vita_duplex.engine.ports import PartFailed, Unanswerable

real = pytest.mark.real
on_one_loop = pytest.mark.asyncio(loop_scope="module")

PARIS: list[TemplateMessage] = [("user", "What is the capital of France?")]
DRAGON: list[TemplateMessage] = [("user", "Tell me a very long story about a dragon.")]


def test_a_misspelt_setting_is_an_error() -> None:
    with pytest.raises(ValidationError, match="temprature"):
        VllmTextConfig.model_validate({"model": "m", "temprature": 1})


def test_the_configuration_overrules_the_model_and_the_model_overrules_vllm() -> None:
    own = {"temperature": 0.7, "top_k": 20, "max_tokens": 9}
    assert sampling_defaults(VllmTextConfig(model="m", temperature=0.1), own) == {
        "temperature": 0.1,
        "top_k": 20,
    }


def test_neighbours_of_one_role_are_merged_and_a_user_begins() -> None:
    assert merge_roles([("system", "S"), ("assistant", "lost"), ("user", "a"), ("user", "b"), ("assistant", "c")]) == [
        ("system", "S"),
        ("user", "a\nb"),
        ("assistant", "c"),
    ]


def test_a_model_without_a_template_sees_a_plain_dialogue() -> None:
    assert plain_dialogue([("system", "Talk."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Sing")], True) == (
        "Talk.\nUser: Hi\nAssistant: Yes?\nUser: Sing\nAssistant:"
    )


def test_what_the_user_has_set_in_the_environment_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "7"})
    set_environment(VllmTextConfig(model=str(tmp_path), threads=1))
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_hub_model_leaves_the_hub_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    set_environment(VllmTextConfig(model="owner/name"))
    assert "HF_HUB_OFFLINE" not in os.environ


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(PartFailed, match="there is no folder /no/such/folder"):
        check_model("language model", "/no/such/folder")


@real
def test_an_unknown_model_is_named_in_one_line_with_what_helps() -> None:
    with pytest.raises(PartFailed, match=r"nobody-at-all/no-such-model.*(name its folder|check the name)") as caught:
        VllmText.load(VllmTextConfig(model="nobody-at-all/no-such-model"), lambda fraction, phase: None)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def model_folder() -> Path:
    from vita_duplex.models import smollm2

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vita-duplex"
    return smollm2.prepare(cache, lambda fraction, phase: None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(model_folder: Path) -> AsyncIterator[VllmText]:
    """Loaded as the server does it: in a worker thread, used from the event loop."""
    config = VllmTextConfig(model=str(model_folder), cache=model_folder.parent, max_model_len=1024)
    text = await asyncio.to_thread(VllmText.load, config, lambda fraction, phase: None)
    yield text
    await asyncio.to_thread(text.engine.shutdown)
    assert not text.engine.healthy
    assert unfinished(text.engine) == 0
    with pytest.raises(PartFailed, match="not running"):
        await said(text, PARIS)
    wait_for_its_end()


async def said(model: VllmText, messages: list[TemplateMessage]) -> str:
    return "".join([delta async for delta in model.reply(messages) if isinstance(delta, str)])


class Tokenizer:
    chat_template = None

    def encode(self, text: str, **_: object) -> list[int]:
        return list(text.encode())


class RefusingEngine:
    """Takes a request and cannot go on with it, but lives."""

    model_config = SimpleNamespace(get_diff_sampling_param=dict, max_model_len=2048)
    errored = False

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    async def generate(self, *_: object) -> AsyncIterator[None]:
        from vllm.v1.engine.exceptions import EngineGenerateError

        raise EngineGenerateError
        yield


@real  # for the time it takes to import vLLM
async def test_a_request_that_the_engine_cannot_answer_fails_alone() -> None:
    model = VllmText(VllmTextConfig(), VllmEngine("language model", RefusingEngine))
    with pytest.raises(PartFailed, match="could not answer"):
        await said(model, PARIS)
    assert model.engine.healthy


class StumblingEngine(RefusingEngine):
    """Says so many words of an answer and then loses what it was given."""

    def __init__(self, words: int) -> None:
        self._words, self.asked = words, 0

    async def generate(self, *_: object) -> AsyncIterator[Any]:  # type: ignore[override]
        self.asked += 1
        reasons = [*[None] * self._words, "error"] if self.asked == 1 else [None, "stop"]
        for reason in reasons:
            yield SimpleNamespace(outputs=[SimpleNamespace(finish_reason=reason)])


@real  # as above
@pytest.mark.parametrize(("words", "asked"), [(0, 2), (1, 1)])
async def test_an_engine_that_lost_its_input_is_asked_again_unless_it_has_begun(words: int, asked: int) -> None:
    stumbling = StumblingEngine(words)
    engine = VllmEngine("language model", lambda: stumbling)

    async def outputs() -> int:
        return len([output async for output in engine.generate({"prompt_token_ids": [1]}, None)])

    if asked == 1:
        with pytest.raises(PartFailed, match="its engine was stopped"):
            await outputs()
    else:
        assert await outputs() == 2
    assert stumbling.asked == asked


@real
@on_one_loop
async def test_it_knows_the_capital_of_france(model: VllmText) -> None:
    assert "Paris" in await said(model, PARIS)


@real
@on_one_loop
async def test_text_comes_in_pieces_and_stops_after_the_allowed_sentences(model: VllmText) -> None:
    *deltas, usage = [item async for item in model.reply([("user", "Explain what a computer is.")])]
    assert len(deltas) > 5
    assert isinstance(usage, Usage)
    assert len(deltas) <= usage.output_tokens <= model.config.max_tokens
    assert usage.input_tokens > 10
    assert "".join(deltas).count(".") <= model.config.max_sentences


@real
@on_one_loop
async def test_the_dialogue_is_remembered(model: VllmText) -> None:
    history: list[TemplateMessage] = [
        ("user", "My name is Alice."),
        ("assistant", "Hello Alice! It's nice to meet you."),
    ]
    assert "Alice" in await said(model, [*history, ("user", "What is my name?")])


async def busy_s(engine: psutil.Process) -> float:
    """CPU seconds the engine used during the next second."""
    before = sum(engine.cpu_times()[:2])
    await asyncio.sleep(1)
    return float(sum(engine.cpu_times()[:2]) - before)


@real
@on_one_loop
async def test_closing_a_reply_frees_the_engine(model: VllmText, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine works far less for a reply that is closed after its first words than for the whole of it."""
    monkeypatch.setitem(model._sampling, "ignore_eos", True)
    monkeypatch.setattr(model, "config", model.config.model_copy(update={"max_sentences": 1000}))
    engine = engine_process()
    assert engine is not None

    async def work_s(pieces: int | None) -> float:
        """CPU seconds that the engine takes for so many pieces of a reply, and until it is idle."""
        before = sum(engine.cpu_times()[:2])
        async with aclosing(model.reply(DRAGON, max_tokens=100)) as deltas:
            read = 0
            while read != pieces and await anext(deltas, None) is not None:
                read += 1
        assert unfinished(model.engine) == 0
        while await busy_s(engine) > 0.2:
            pass
        return float(sum(engine.cpu_times()[:2]) - before)

    assert await work_s(2) < await work_s(None) / 2


@real
@on_one_loop
async def test_cancelling_the_reader_frees_the_engine(model: VllmText) -> None:
    engine = engine_process()
    assert engine is not None
    with going_on(engine):
        engine.suspend()  # so that it is not done before it is asked to stop
        reader = asyncio.ensure_future(said(model, DRAGON))
        while unfinished(model.engine) == 0:  # noqa: ASYNC110 - it is on its way
            await asyncio.sleep(0.01)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert unfinished(model.engine) == 0
    assert "Paris" in await said(model, PARIS)


@real
@on_one_loop
async def test_several_speak_at_once(model: VllmText) -> None:
    alone = await said(model, PARIS)
    answers = await asyncio.gather(*[said(model, PARIS) for _ in range(4)], said(model, DRAGON))
    assert all("Paris" in answer for answer in answers[:4]), (alone, answers)
    assert answers[4]


@real
@on_one_loop
async def test_a_question_longer_than_the_model_can_read_is_still_answered(model: VllmText) -> None:
    song = "la " * 3000
    assert await said(model, [("user", song), ("assistant", "Nice."), ("user", f"{song}. {PARIS[0][1]}")])


@real
@on_one_loop
async def test_a_warmed_dialogue_is_in_the_prefix_cache(model: VllmText, monkeypatch: pytest.MonkeyPatch) -> None:
    generate, found = model.engine.generate, list[int]()

    async def watched(prompt: Any, params: Any) -> AsyncIterator[Any]:
        async with aclosing(generate(prompt, params)) as outputs:
            async for output in outputs:
                found.append(output.num_cached_tokens)
                yield output

    monkeypatch.setattr(model.engine, "generate", watched)

    async def cached(messages: list[TemplateMessage]) -> int:
        """Tokens of a request that the engine had computed before."""
        found.clear()
        await said(model, messages)
        return found[0]

    def dialogue(word: str) -> list[TemplateMessage]:
        return [("system", f"The word of the day is {word}. " + "You like long walks by the sea. " * 40)]

    cold = await cached([*dialogue("red"), *PARIS])
    await model.warm(dialogue("blue"))
    assert await cached([*dialogue("blue"), *PARIS]) > cold + 200


@real
@on_one_loop
async def test_a_reply_that_was_begun_elsewhere_goes_on_from_its_text(model: VllmText) -> None:
    whole = await said(model, PARIS)
    begun = whole[: whole.index(" ", len(whole) // 2)]
    *deltas, usage = [item async for item in model.reply(PARIS, begun)]
    rest = "".join(deltas)
    [told] = [item async for item in model.reply(PARIS) if isinstance(item, Usage)]
    assert isinstance(usage, Usage)
    assert usage.input_tokens == told.input_tokens
    assert usage.output_tokens > len(model._tokenizer.encode(begun, add_special_tokens=False)), "begun is written"
    assert rest.startswith(" ")
    assert (begun + rest).count(".") <= model.config.max_sentences
    assert [delta async for delta in model.reply(PARIS, "One. Two. Three. ")] == [], "all its sentences are said"


@real
@on_one_loop
async def test_a_chat_is_sampled_as_asked_and_nothing_of_it_is_left_out(model: VllmText) -> None:
    async def asked(messages: list[TemplateMessage], **wishes: Any) -> tuple[str, Finished]:
        *deltas, end = [item async for item in model.chat(messages, Sampling(**wishes))]
        assert isinstance(end, Finished)
        return "".join(deltas), end

    _, end = await asked(DRAGON, max_tokens=5)
    assert (end.reason, end.usage.output_tokens) == ("length", 5)
    _, longer = await asked([("user", "one two three"), ("assistant", "four"), *DRAGON], max_tokens=1)
    assert longer.usage.input_tokens > end.usage.input_tokens
    hot = [await asked(DRAGON, max_tokens=20, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    greedy, _ = await asked(DRAGON, max_tokens=20, temperature=0)
    word = greedy.split()[3]
    stopped, end = await asked(DRAGON, max_tokens=20, temperature=0, stop=(word,))
    assert stopped == greedy[: greedy.index(word)]
    assert end.reason == "stop"
    with pytest.raises(Unanswerable, match="tokens; the model reads"):
        await asked([("user", "word " * 3000)])


@real
@on_one_loop
async def test_an_answer_follows_a_schema_and_a_schema_that_cannot_be_followed_is_refused(model: VllmText) -> None:
    async def answer(schema: dict[str, Any], most: int = 60) -> str:
        items = [item async for item in model.chat(PARIS, Sampling(max_tokens=most, temperature=0, schema=schema))]
        return "".join(item for item in items if isinstance(item, str))

    city = {"type": "object", "properties": {"city": {"enum": ["Rome", "Paris"]}, "sure": {"type": "boolean"}}}
    strict = {**city, "required": ["city", "sure"], "additionalProperties": False}
    found = json.loads(await answer(strict))
    assert found["city"] in ("Rome", "Paris")
    assert isinstance(found["sure"], bool)
    assert (await answer({"type": "object"})).lstrip().startswith("{")
    tree = {"$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "$ref": "#/$defs/node"}
    assert (await answer(tree, 8)).lstrip().startswith("[")
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    for wrong in ({"type": "nonsense"}, {"$ref": "#/nowhere"}, deep):
        with pytest.raises(Unanswerable):
            await answer(wrong)
    assert await said(model, PARIS)


@real
@on_one_loop
async def test_calls_that_have_to_be_made_are_made(model: VllmText) -> None:
    def one(name: str, argument: str, kind: str) -> Tool:
        schema = {"type": "object", "properties": {argument: {"type": kind}}, "required": [argument]}
        return Tool(name, name.replace("_", " "), schema)

    weather, timer = one("get_weather", "city", "string"), one("set_timer", "minutes", "integer")

    async def called(question: str, tools: Tools) -> tuple[str, Any]:
        *working, call, usage = [item async for item in model.reply([("user", question)], tools=tools)]
        assert set(working) == {""}
        assert isinstance(call, Call)
        assert isinstance(usage, Usage)
        assert usage.output_tokens >= len(working)
        return call.name, json.loads(call.arguments)

    both = (weather, timer)
    assert await called("What is the weather in Paris?", Tools(both, "named", "get_weather")) == (
        "get_weather",
        {"city": "Paris"},
    )
    assert await called("Set a timer for five minutes.", Tools(both, "required")) == ("set_timer", {"minutes": 5})
    *_, call, end = [
        item
        async for item in model.chat(
            [("user", "Set a timer for five minutes.")], Sampling(), Tools((timer,), "required")
        )
    ]
    assert isinstance(call, Call)
    assert (json.loads(call.arguments), end.reason if isinstance(end, Finished) else None) == ({"minutes": 5}, "calls")
    wrong = Tools((Tool("wrong", "", {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}),), "required")
    with pytest.raises(PartFailed, match="schema of a tool cannot be followed"):
        [item async for item in model.reply(PARIS, tools=wrong)]
    with pytest.raises(Unanswerable):
        [item async for item in model.chat(PARIS, Sampling(), wrong)]
    assert "Paris" in await said(model, PARIS)


@real
@on_one_loop
async def test_the_bundled_model_answers_as_well_where_tools_are_offered(model: VllmText) -> None:
    alone = [item async for item in model.reply(PARIS)]
    assert [item async for item in model.reply(PARIS, tools=Tools((Tool("get_weather"),)))] == alone


@real
@on_one_loop
async def test_an_output_is_told(model: VllmText) -> None:
    made = CallMessage(Call("call_1", "get_weather", '{"city": "Paris"}'), "sunny, 20 degrees")
    tools = Tools((Tool("get_weather"),))
    items = [item async for item in model.reply([("user", "What is the weather in Paris?"), made], tools=tools)]
    assert "sunny" in "".join(item for item in items if isinstance(item, str)).lower()


@real
@on_one_loop
async def test_a_dead_engine_fails_the_reply_that_runs_and_those_that_follow(
    model: VllmText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last of the module: it takes the engine away."""
    monkeypatch.setitem(model._sampling, "ignore_eos", True)
    engine = engine_process()
    assert engine is not None

    async def lose_the_engine() -> None:
        async for _ in model.reply(DRAGON, max_tokens=800):
            engine.kill()

    with pytest.raises(PartFailed, match="engine died"):
        await lose_the_engine()
    assert not model.engine.healthy
    with pytest.raises(PartFailed, match="not running"):
        await said(model, PARIS)
