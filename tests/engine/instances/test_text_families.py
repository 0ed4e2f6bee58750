"""Models of other families than the default's, as tiny folders: what they remember, how long they may answer, and what
they think."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr

from tests.support.tiny_text import CONTEXT, tokenizer, write
from vita_duplex.config import AsrConfig
from vita_duplex.engine.cascade.cascade import Cascade
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.instances.text_model import TemplateMessage
from vita_duplex.engine.instances.vllm_engine import VllmEngine
from vita_duplex.engine.instances.vllm_text import VllmText, VllmTextConfig, settled
from vita_duplex.engine.messages import (
    AssistantMessage,
    Call,
    Finished,
    LeftOut,
    Message,
    Query,
    Sampling,
    Tool,
    Tools,
    Usage,
    UserMessage,
    Utterance,
    Verdict,
)
from vita_duplex.engine.ports import PartFailed
from vita_duplex.server.asr import load_asr
from vita_duplex.tts.voices.hibari import HibariVoice

pytestmark = pytest.mark.real

QUESTIONS = [
    "My name is Peter and I live in Berlin.",
    "What is the capital of France?",
    "How far away is the moon?",
    "Can you tell me a story?",
    "Who painted the Mona Lisa?",
    "What should I cook tonight?",
    "Why is the sky blue?",
    "How do I make a cup of tea?",
    "When did the war end?",
    "What is my name?",
]


class ScriptedEngine:
    """Writes given pieces, a token each, as many as it is allowed to."""

    errored = False

    def __init__(self, family: str, *pieces: str, **own: Any) -> None:
        self.model_config = SimpleNamespace(get_diff_sampling_param=lambda: own, max_model_len=CONTEXT)
        self._tokenizer, self._pieces = tokenizer(family), pieces
        self.prompts: list[list[int]] = []

    def get_tokenizer(self) -> Any:
        return self._tokenizer

    async def generate(self, prompt: Any, params: Any, request: str) -> AsyncIterator[Any]:
        self.prompts.append(prompt["prompt_token_ids"])
        for number, text in enumerate(pieces := self._pieces[: params.max_tokens], 1):
            last = "stop" if number == len(self._pieces) else "length"
            reason = last if number == len(pieces) else None
            output = SimpleNamespace(text=text, token_ids=[1], finish_reason=reason)
            yield SimpleNamespace(prompt_token_ids=self.prompts[-1], outputs=[output])


def scripted(engine: ScriptedEngine, **settings: Any) -> VllmText:
    config = VllmTextConfig.model_validate({"model": "other", **settings})
    return VllmText(settled(config), VllmEngine("language model", lambda: engine))


async def reply(model: VllmText, messages: list[TemplateMessage], **more: Any) -> tuple[str, Usage]:
    *deltas, usage = [item async for item in model.reply(messages, **more)]
    assert isinstance(usage, Usage)
    return "".join(item for item in deltas if isinstance(item, str)), usage


HI: list[TemplateMessage] = [("user", "Hi")]
WEATHER = Tool("weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})
TOOLS = Tools((WEATHER,))
PARIS = '{"city": "Paris"}'
CALLING = ["One moment.", "<tool", '_call>{"name": "weather", ', f'"arguments": {PARIS}}}', "</tool_call>"]


async def test_a_model_says_something_and_calls() -> None:
    engine = ScriptedEngine("qwen3", "<think>", "</think>", *CALLING)
    *items, call, usage = [item async for item in scripted(engine).reply(HI, tools=TOOLS)]
    assert "".join(map(str, items)) == "One moment."
    assert items.count("") > 2, "a session is told that something is being written"
    assert isinstance(call, Call)
    assert (call.name, call.arguments, isinstance(usage, Usage)) == ("weather", PARIS, True)
    said, call, end = [item async for item in scripted(engine).chat(HI, Sampling(), TOOLS)]
    assert (said, isinstance(call, Call)) == ("One moment.", True)
    assert isinstance(end, Finished)
    assert end.reason == "calls"
    assert "weather" in engine.get_tokenizer().decode(engine.prompts[-1])


async def test_a_call_that_has_to_be_made_stands_where_the_model_would_write_it() -> None:
    engine = ScriptedEngine("qwen2", '{"city": ', '"Paris"}')
    model = scripted(engine)
    assert model.calls
    for choice in (Tools((WEATHER,), "required"), Tools((Tool("other"), WEATHER), "named", "weather")):
        *working, call, usage = [item async for item in model.reply(HI, tools=choice)]
        assert working == ["", ""]
        assert isinstance(call, Call)
        assert (call.name, call.arguments) == ("weather", PARIS)
        assert isinstance(usage, Usage)
        assert (usage.output_tokens, usage.cut) == (2, False)
        prompt = engine.get_tokenizer().decode(engine.prompts[-1])
        assert prompt.endswith('<|im_start|>assistant\n<tool_call>\n{"name": "weather", "arguments":')
        assert "other" not in prompt
    cut = [item async for item in model.reply(HI, max_tokens=1, tools=Tools((WEATHER,), "required"))]
    assert cut == ["", Usage(usage.input_tokens, 1)]
    assert isinstance(cut[-1], Usage)
    assert cut[-1].cut


async def test_a_model_whose_calls_nobody_could_read_says_so() -> None:
    assert not scripted(ScriptedEngine("llama3")).calls
    assert not scripted(ScriptedEngine("base")).calls


LIST = ["Apples:\n", "1. red.\n", "2. green.\n", "3. yellow.\n", "4. all.", " Bye."]


async def test_another_model_is_not_cut_in_the_middle_of_a_list() -> None:
    text, usage = await reply(scripted(ScriptedEngine("qwen2", *LIST)), HI)
    assert (text, usage.cut) == ("".join(LIST), False)


async def test_what_is_cut_says_so_whatever_cut_it() -> None:
    by_settings = await reply(scripted(ScriptedEngine("qwen2", *LIST), max_tokens=2), HI)
    by_itself = await reply(scripted(ScriptedEngine("qwen2", *LIST, max_tokens=3)), HI)
    by_client = await reply(scripted(ScriptedEngine("qwen2", *LIST)), HI, max_tokens=4)
    by_sentences = await reply(scripted(ScriptedEngine("qwen2", *LIST), max_sentences=2), HI)
    for (text, usage), pieces in ((by_settings, 2), (by_itself, 3), (by_client, 4)):
        assert (text, usage.cut) == ("".join(LIST[:pieces]), True)
    assert (by_sentences[0], by_sentences[1].cut) == ("Apples:\n1. red.", True)
    last = await reply(scripted(ScriptedEngine("qwen2", "One. ", "Two.", " "), max_sentences=2), HI)
    assert (last[0], last[1].cut) == ("One. Two.", False)


@pytest.mark.parametrize(
    ("family", "thought", "tokens"),
    [
        ("qwen3", ["<th", "ink>I", " greet. Then.", " More.", "</think>", "\n\n"], 6),
        ("deepseek-r1", ["I greet", "</think>"], 2),
    ],
)
async def test_thoughts_are_neither_said_nor_counted_but_told(family: str, thought: list[str], tokens: int) -> None:
    engine = ScriptedEngine(family, *thought, "Hello", ". Bye", ". And", " on.")
    text, usage = await reply(scripted(engine, max_sentences=2, max_tokens=3), HI)
    assert text == "Hello. Bye."
    assert usage.cut
    assert usage.thought_tokens == tokens
    *deltas, end = [item async for item in scripted(engine).chat(HI, Sampling(max_tokens=2))]
    assert ("".join(map(str, deltas)), end.reason if isinstance(end, Finished) else None) == ("Hello. Bye", "length")


async def test_a_session_is_told_that_the_model_still_thinks() -> None:
    engine = ScriptedEngine("qwen3", "<think>", "a", "b", "</think>", "Hello.")
    items = [item async for item in scripted(engine).reply(HI)]
    assert items[:4] == ["", "", "", "Hello."]


async def test_an_answer_that_was_begun_elsewhere_does_not_go_on_as_a_thought() -> None:
    engine = ScriptedEngine("deepseek-r1", " there.")
    text, _ = await reply(scripted(engine), HI, begun="Hello")
    assert text == " there."
    assert engine.get_tokenizer().decode(engine.prompts[0]).endswith("<think>\n</think>\n\nHello")


async def test_the_dialogue_is_shown_as_far_as_the_context_goes() -> None:
    engine = ScriptedEngine("llama3", "Yes.")
    model = scripted(engine)
    long = [turn for number in range(40) for turn in (("user", f"Question {number}?"), ("assistant", f"A{number}."))]

    async def shown(messages: Any) -> str:
        await reply(model, [*messages, *HI])
        return str(engine.get_tokenizer().decode(engine.prompts[-1]))

    assert "Question 0?" in await shown(long[:16])
    longest = await shown(long * 4)
    assert "Question 39?" in longest
    assert CONTEXT // 2 < len(engine.prompts[-1]) <= CONTEXT - CONTEXT // 4


def test_the_bundled_model_keeps_its_own_limits() -> None:
    own = settled(VllmTextConfig())
    assert (own.max_tokens, own.max_sentences, own.max_model_len, own.kv_cache_mib) == (120, 3, 2048, 256)
    assert settled(VllmTextConfig(max_tokens=500)).max_tokens == 500
    other = settled(VllmTextConfig(model="other"))
    assert (other.max_tokens, other.max_sentences, other.max_model_len, other.kv_cache_mib) == (None, None, -1, None)


async def spoken(voice: HibariVoice, text: str) -> Any:
    pieces = [piece async for piece in voice.synthesise(text)]
    return soxr.resample(np.concatenate(pieces), voice.rate, 16_000).astype(np.float32)


@pytest.mark.parametrize("family", ["qwen3", "llama3", "gemma2"])
async def test_ten_spoken_turns_and_the_first_is_still_shown_at_the_last(family: str, tmp_path: Path) -> None:
    """Through the default's ASR, verdict and voice. The weights are random: what is remembered is what is shown."""
    folder = write(family, tmp_path / f"Tiny {family}.v1 模型", do_sample=True, temperature=0.8, max_new_tokens=12)
    model = await asyncio.to_thread(
        VllmText.load, VllmTextConfig(model=str(folder), kv_cache_mib=16, threads=1), lambda share, phase: None
    )
    prompts: list[list[int]] = []
    generate = model.engine.generate

    async def watched(prompt: Any, params: Any) -> AsyncIterator[Any]:
        prompts.append(prompt["prompt_token_ids"])
        async with aclosing(generate(prompt, params)) as outputs:
            async for output in outputs:
                yield output

    model.engine.generate = watched  # type: ignore[method-assign, assignment]
    asr = load_asr(AsrConfig(), needed=True)
    assert asr is not None
    mind, voice = Cascade("a", asr, Judge(), model), HibariVoice(ThreadPoolExecutor(1))
    history: list[Message] = []
    try:
        assert model.context == CONTEXT
        for number, question in enumerate(QUESTIONS):
            utterance = Utterance(number, await spoken(voice, question))
            items = [item async for item in mind.answer(Query(tuple(history), (utterance,), "Be kind."))]
            verdict, *deltas, usage = items
            assert isinstance(verdict, Verdict)
            assert verdict.p1 > 0.5, (question, verdict)
            assert isinstance(usage, Usage)
            assert usage.output_tokens < 40, "what looks like the beginning of a mark is not counted"
            answer = "".join(map(str, deltas))
            history += [UserMessage(verdict.transcripts[0]), AssistantMessage(answer or "Yes.")]
            assert len(await spoken(voice, "Yes. " + answer)) > 1600
        shown = model.engine.tokenizer.decode(prompts[-1])
        assert "Peter" in shown
        assert "my name" in shown
        assert shown.count("Mona Lisa") == 1
    finally:
        await asyncio.to_thread(mind.close)


async def test_a_long_dialogue_is_cut_seldom_and_keeps_its_instructions() -> None:
    model = scripted(engine := ScriptedEngine("qwen2", "Yes."))
    dialogue: list[TemplateMessage] = [("system", "Be brief.")]
    missing: list[int] = []
    for number in range(300):
        dialogue.append(("user", f"Is {number} a number, and how do you know it?"))
        items = [item async for item in model.reply(dialogue)]
        missing.append(sum(item.messages for item in items if isinstance(item, LeftOut)))
        shown = engine.get_tokenizer().decode(engine.prompts[-1])
        assert len(engine.prompts[-1]) <= CONTEXT
        assert "Be brief." in shown
        assert f"Is {number} a number" in shown
        dialogue.append(("assistant", "Yes."))
    cuts = [after - before for before, after in pairwise(missing) if after != before]
    assert missing[-1] > 100
    assert min(cuts) >= 4
    with pytest.raises(PartFailed, match="there is room for"):
        [item async for item in model.reply([*dialogue, ("user", "Really?")], retained=None)]
