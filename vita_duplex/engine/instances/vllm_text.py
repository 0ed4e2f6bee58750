"""A language model in vLLM, for text: dialogue in, words out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from pydantic import Field

from vita_duplex.engine.instances.sentence_limit import SentenceLimit
from vita_duplex.engine.instances.streamed_calls import described
from vita_duplex.engine.instances.template import Template
from vita_duplex.engine.instances.text_model import NO_TOOLS, PART, Dialogue, TemplateMessage, is_system, new_call
from vita_duplex.engine.instances.thoughts import Thoughts
from vita_duplex.engine.instances.tool_format import CallText
from vita_duplex.engine.instances.vllm_engine import TokenCount, VllmConfig, VllmEngine, on_cpu, sampling_fields
from vita_duplex.engine.messages import Call, CallMessage, Finished, LeftOut, Sampling, Tools, Usage
from vita_duplex.engine.ports import PartFailed, Progress, Unanswerable
from vita_duplex.engine.truncation import QUESTION, RETAINED, left_out
from vita_duplex.models import smollm2

BUNDLED_MESSAGES = 4
"""Earlier messages shown to the bundled model, which loses the question among more."""
BUNDLED_LIMITS = {"max_tokens": 120, "max_sentences": 3, "max_model_len": 2048, "kv_cache_mib": 256}
"""What the bundled model gets where the settings say nothing: its longer answers repeat themselves."""
MARKS = 8
"""Tokens that a chat template puts round a message, or more."""
CLOSED_THOUGHT = "</think>\n\n"
NAME_TOKENS = 80
"""More than a tool's name can have: it has 64 characters at most."""
ANSWER_SHARE = 4
"""A dialogue leaves at least one part in so many of the context to its answer."""


class VllmTextConfig(VllmConfig):
    """Which model answers and how long it may talk."""

    model: str = smollm2.BUNDLED
    """A folder, the name of a model on the Hugging Face hub, or `smollm2`: the one that comes in a package."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights in memory; `auto` is the checkpoint's own on a GPU, and float32 on a CPU, where it is
    mostly the fastest."""
    max_model_len: int = Field(-1, ge=-1)
    """Tokens of dialogue and answer together. -1 is what the model was made for, as far as `kv_cache_mib` goes; for
    the bundled model 2048."""
    kv_cache_mib: int | None = Field(None, ge=16)
    """Memory for the tokens of all dialogues, in MiB. None takes what a GPU has, and half a GiB on a CPU; for the
    bundled model 256."""
    temperature: float | None = Field(None, ge=0)
    """Sampling temperature. None is the model's own."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Share of the probability that tokens are sampled from. None is the model's own."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer, in tokens, thoughts not counted. None is what the model says of itself, or what its context
    leaves; for the bundled model 120."""
    max_sentences: int | None = Field(None, ge=1)
    """Longest spoken answer, in sentences. None sets no limit; for the bundled model 3."""


class VllmText:
    """One language model: dialogue in, text out."""

    def __init__(self, config: VllmTextConfig, engine: VllmEngine) -> None:
        """`config` as `settled` gives it."""
        self.config = config
        self.engine = engine
        self.context = int(engine.model_config.max_model_len)
        """Tokens of a dialogue and its answer."""
        self._tokenizer = engine.tokenizer
        self._template = Template(engine.tokenizer)
        self.calls = self._template.tool_format is not None
        own = engine.model_config.get_diff_sampling_param()
        self._sampling = sampling_defaults(config, own)
        self._most: int | None = config.max_tokens or own.get("max_tokens")
        self._earlier = BUNDLED_MESSAGES if smollm2.is_bundled(config.model) else None

    @classmethod
    def load(cls, config: VllmTextConfig, progress: Progress) -> "VllmText":
        """Start the engine, as `VllmEngine.load`. Errors: `PartFailed`."""
        config = settled(config)
        return cls(config, VllmEngine.load(PART, config, {}, progress))

    @property
    def healthy(self) -> bool:
        return self.engine.healthy

    def restart(self) -> None:
        self.engine.restart()

    def close(self) -> None:
        self.engine.shutdown()

    async def reply(
        self,
        messages: Dialogue,
        begun: str = "",
        max_tokens: int | None = None,
        tools: Tools = NO_TOOLS,
        retained: float | None = RETAINED,
    ) -> AsyncGenerator[str | Call | Usage | LeftOut, None]:
        """As `TextModel.reply`. A call that has to be made is one call.

        Errors: `PartFailed` when the engine has died or cannot take the request.
        """
        limit = SentenceLimit(self.config.max_sentences)
        limit.push(begun)
        opening = self._opening(begun)
        most = min(max_tokens or self.context, self._most or self.context) - len(opening)
        if limit.left == 0 or most <= 0:
            return
        tools = self._shown(tools)
        shown, missing = self._prompt(messages, retained, tools=tools)
        if missing:
            yield LeftOut(missing)
        prompt = [*shown, *opening]
        if _forced(tools):
            try:
                async with aclosing(self._call(prompt, tools, most)) as items:
                    async for item in items:
                        yield item
            except Unanswerable as exc:
                raise PartFailed(PART, f"the schema of a tool cannot be followed: {exc}") from exc
            return
        answer = Answer(Thoughts(self._template.opens_thought and not begun), TokenCount(opening), most)
        calling = self._calling(tools)
        async with aclosing(self._generate(prompt, self._allowed(prompt, most), marks=bool(tools.offered))) as outputs:
            async for output in outputs:
                text = calling.push(answer.push(output))
                said = limit.push(text)
                if said or answer.thoughts.inside or calling.kept:
                    yield said
                answer.over = answer.over or (limit.left == 0 and said != text and bool(text[len(said) :].strip()))
                if answer.over:
                    break
        rest, calls = calling.finish(answer.thoughts.finish(), tools)
        if rest := limit.push(rest):
            yield rest
        for call in calls:
            yield call
        yield answer.usage

    async def chat(
        self, messages: Dialogue, sampling: Sampling, tools: Tools = NO_TOOLS
    ) -> AsyncGenerator[str | Call | Finished, None]:
        """As `TextModel.chat`. Errors: as `reply`; `Unanswerable` when it is too long, or its schema is
        none that can be followed."""
        tools = self._shown(tools)
        prompt = self._template.tokens(messages, tools=tools)
        left = self.context - len(prompt)
        if left < 1:
            raise Unanswerable(f"the messages have {len(prompt)} tokens; the model reads {self.context}")
        most = min(sampling.max_tokens or self._most or left, left)
        chosen = sampling_fields(sampling)
        if _forced(tools):
            async with aclosing(self._call(prompt, tools, most, **{**chosen, "stop": []})) as items:
                async for item in items:
                    yield Finished("length" if item.cut else "calls", item) if isinstance(item, Usage) else item
            return
        answer = Answer(Thoughts(self._template.opens_thought), TokenCount(), most)
        calling, chosen["schema"] = self._calling(tools), sampling.schema
        async with aclosing(
            self._generate(prompt, self._allowed(prompt, most), marks=bool(tools.offered), **chosen)
        ) as outputs:
            async for output in outputs:
                if text := calling.push(answer.push(output)):
                    yield text
                if answer.over:
                    break
        rest, calls = calling.finish(answer.thoughts.finish(), tools)
        if rest:
            yield rest
        for call in calls:
            yield call
        yield Finished("length" if answer.usage.cut else "calls" if calls else "stop", answer.usage)

    async def warm(self, messages: Dialogue, tools: Tools = NO_TOOLS) -> None:
        """As `TextModel.warm`. Errors: as `reply`."""
        prompt, _ = self._prompt(messages, RETAINED, open_turn=False, tools=self._shown(tools))
        async with aclosing(self._generate(prompt, 1)) as outputs:
            async for _ in outputs:
                pass

    def _shown(self, tools: Tools) -> Tools:
        """The bundled model calls nothing by itself, and answers worse for having been shown tools."""
        return NO_TOOLS if tools.choice == "auto" and self._earlier is not None else tools

    def _calling(self, tools: Tools) -> CallText:
        return CallText(self._template.tool_format if tools.offered else None)

    async def _call(
        self, prompt: list[int], tools: Tools, most: int, **chosen: Any
    ) -> AsyncGenerator[str | Call | Usage, None]:
        """Have one call written: its tool's name, if there are several, then arguments that follow the tool's schema.
        Both stand where the model would write them by itself. A call that was cut is none.

        Errors: as `_generate`; `Unanswerable` for a schema that cannot be followed.
        """
        form = self._template.tool_format
        assert form is not None  # or no tools would be offered
        closed = CLOSED_THOUGHT if self._template.opens_thought else ""
        before, names, tokens = f"{closed}{form.before}", [tool.name for tool in tools.offered], 0
        name = names[0] if len(names) == 1 else ""
        if not name:
            wish = self._generate([*prompt, *self._ids(before)], NAME_TOKENS, **chosen, choice=names)
            async with aclosing(wish) as outputs:
                async for output in outputs:
                    name += output.outputs[0].text
                    tokens += len(output.outputs[0].token_ids)
                    yield ""
        schema = {"type": "object", **tools.offered[names.index(name)].parameters}
        begun, arguments, reason = [*prompt, *self._ids(f"{before}{name}{form.between}")], "", None
        left = max(1, min(most, self.context - len(begun)))
        async with aclosing(self._generate(begun, left, **chosen, schema=schema)) as outputs:
            async for output in outputs:
                arguments += output.outputs[0].text
                tokens += len(output.outputs[0].token_ids)
                reason = output.outputs[0].finish_reason
                yield ""
        if reason != "length":
            yield new_call(name, arguments.strip())
        yield Usage(len(prompt), tokens, reason == "length")

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _opening(self, begun: str) -> list[int]:
        """The tokens of an answer's beginning; a thought that the template opens is closed before it."""
        if begun and self._template.opens_thought:
            begun = CLOSED_THOUGHT + begun
        return self._ids(begun) if begun else []

    def _allowed(self, prompt: Sequence[int], most: int) -> int:
        """Tokens that the engine may write, thoughts included."""
        left = max(1, self.context - len(prompt))
        return left if self._template.thinks else min(most, left)

    async def _generate(
        self, prompt: list[int], max_tokens: int, *, marks: bool = False, **wished: Any
    ) -> AsyncGenerator[Any, None]:
        """`marks`: the marks of calls, which are special tokens of some families, are part of the text."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        if (schema := wished.pop("schema", None)) is not None:
            wished["structured_outputs"] = StructuredOutputsParams(json=dict(schema))
        if (choice := wished.pop("choice", None)) is not None:
            wished["structured_outputs"] = StructuredOutputsParams(choice=choice)
        params = SamplingParams(
            **{**self._sampling, **wished, "stop": [*self._template.stops, *wished.get("stop", ())]},
            max_tokens=max_tokens,
            skip_special_tokens=not marks and not self._template.marks_are_special,
            output_kind=RequestOutputKind.DELTA,
        )
        async with aclosing(self.engine.generate({"prompt_token_ids": prompt}, params)) as outputs:
            async for output in outputs:
                yield output

    def _prompt(
        self, messages: Dialogue, retained: float | None, open_turn: bool = True, tools: Tools = NO_TOOLS
    ) -> tuple[list[int], int]:
        """Token ids of the newest turns that leave room for an answer, and how many messages, the oldest, are left out.

        Errors: `PartFailed` where none may be.
        """
        room = self.context - min(self._most or self.context, self.context // ANSWER_SHARE)
        instructions = [m for m in messages if is_system(m)]
        newest = [m for m in messages if not is_system(m)]
        if self._earlier is not None:
            newest = newest[-(self._earlier + 1) :]
        ids = self._template.tokens([*instructions, *newest], open_turn, tools)
        if len(ids) <= room:
            return ids, 0
        if retained is None:
            raise PartFailed(PART, f"the dialogue has {len(ids)} tokens; there is room for {room}")
        turns = turns_of(newest)
        fixed = [*instructions, ("system", str(described(tools.offered)))] if tools.offered else instructions
        first = left_out([*map(self._size, turns[:-1])], int(room * (1 - QUESTION)) - self._size(fixed), retained)
        while first < len(turns):
            shown = [message for turn in turns[first:] for message in turn]
            ids = self._template.tokens([*instructions, *shown], open_turn, tools)
            if len(ids) <= room:
                return ids, len(newest) - len(shown)
            first += 1
        shorter = [self._shortened(message, len(ids) - room) for message in turns[-1]]
        return self._template.tokens([*instructions, *shorter], open_turn, tools)[-room:], len(newest) - len(shorter)

    def _size(self, messages: Dialogue) -> int:
        """About how many tokens they are; `left_out` sees to it that every request finds the same."""
        texts = [m.text if isinstance(m, CallMessage) else m[1] for m in messages]
        return sum(len(self._ids(text)) + MARKS for text in texts)

    def _shortened(self, message: TemplateMessage | CallMessage, n_tokens: int) -> TemplateMessage | CallMessage:
        return message if isinstance(message, CallMessage) else (message[0], self._shorten(message[1], n_tokens))

    def _shorten(self, text: str, n_tokens: int) -> str:
        """The end of `text`, where the question is, without its first `n_tokens` and a few for the seam."""
        return str(self._tokenizer.decode(self._ids(text)[n_tokens + 8 :]))


class Answer:
    """An answer as it comes: what of it is to be said, what it costs, and when it is long enough."""

    def __init__(self, thoughts: Thoughts, count: TokenCount, most: int) -> None:
        """`most`: tokens that it may have besides its thoughts."""
        self.thoughts = thoughts
        self.over = False
        """More would come and is not wanted."""
        self._count = count
        self._most = most
        self._thought = 0

    def push(self, output: Any) -> str:
        """Take in one of vLLM's outputs; return the text that it adds to the answer."""
        self._count.push(output)
        text = self.thoughts.push(output.outputs[0].text)
        tokens = len(output.outputs[0].token_ids)
        if self.thoughts.quiet and not text:
            self._thought += tokens
        else:
            self._most -= tokens
        self.over = self._most <= 0 and output.outputs[0].finish_reason is None
        return text

    @property
    def usage(self) -> Usage:
        told = self._count.usage
        return Usage(told.input_tokens, told.output_tokens, told.cut or self.over, self._thought)


def turns_of(messages: Dialogue) -> list[list[TemplateMessage | CallMessage]]:
    """Each message of the user, and what was answered to it."""
    turns: list[list[TemplateMessage | CallMessage]] = []
    for message in messages:
        if not turns or (not isinstance(message, CallMessage) and message[0] == "user"):
            turns.append([])
        turns[-1].append(message)
    return turns


def _forced(tools: Tools) -> bool:
    return bool(tools.offered) and tools.choice in ("required", "named")


def settled(config: VllmTextConfig) -> VllmTextConfig:
    """The settings of a model with what they leave to it, as far as that is known before it is loaded."""
    chosen: dict[str, Any] = {"dtype": "float32"} if config.dtype == "auto" and on_cpu() else {}
    if smollm2.is_bundled(config.model):
        unsaid = {name for name in BUNDLED_LIMITS if getattr(config, name) in (None, -1)}
        chosen |= {name: BUNDLED_LIMITS[name] for name in unsaid}
    return config.model_copy(update=chosen)


def sampling_defaults(config: VllmTextConfig, models_own: dict[str, Any]) -> dict[str, Any]:
    """What the configuration says, else what the model says of itself, else vLLM's neutral values."""
    chosen = config.model_dump(include={"temperature", "top_p"}, exclude_none=True)
    return {name: value for name, value in models_own.items() if name != "max_tokens"} | chosen
