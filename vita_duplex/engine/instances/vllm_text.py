"""A language model in vLLM, for text: dialogue in, words out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from pydantic import Field

from vita_duplex.engine.instances.sentence_limit import SentenceLimit
from vita_duplex.engine.instances.vllm_engine import TokenCount, VllmConfig, VllmEngine, sampling_fields
from vita_duplex.engine.messages import Finished, Sampling, Usage
from vita_duplex.engine.ports import Progress, Unanswerable

Role = Literal["system", "user", "assistant"]
TemplateMessage = tuple[Role, str]

PART = "language model"
HISTORY_MESSAGES = 4
"""Earlier messages shown to the model; small models lose the question among more."""


class VllmTextConfig(VllmConfig):
    """Which model answers and how long it may talk."""

    model: str = "smollm2"
    """A folder, the name of a model on the Hugging Face hub, or `smollm2`: the one that comes in a package."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Type of the weights in memory; `auto` is the checkpoint's own. On most CPUs float32 is the fastest."""
    kv_cache_mib: int | None = Field(256, ge=16)
    """Memory for the tokens of all dialogues, in MiB. None takes what a GPU has, and half a GiB on a CPU."""
    temperature: float | None = Field(None, ge=0)
    """Sampling temperature. None is the model's own."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Share of the probability that tokens are sampled from. None is the model's own."""
    max_tokens: int = Field(120, ge=1)
    """Longest answer, in tokens."""
    max_sentences: int = Field(3, ge=1)
    """Longest answer, in sentences."""


class VllmText:
    """One language model: dialogue in, text out."""

    def __init__(self, config: VllmTextConfig, engine: VllmEngine) -> None:
        self.config = config
        self.engine = engine
        self._tokenizer = engine.tokenizer
        self._sampling = sampling_defaults(config, engine.model_config.get_diff_sampling_param())

    @classmethod
    def load(cls, config: VllmTextConfig, progress: Progress) -> "VllmText":
        """Start the engine, as `VllmEngine.load`. Errors: `PartFailed`."""
        return cls(config, VllmEngine.load(PART, config, {}, progress))

    async def reply(
        self, messages: Sequence[TemplateMessage], begun: str = "", max_tokens: int | None = None
    ) -> AsyncGenerator[str | Usage, None]:
        """Yield the assistant's next message, or what follows its beginning, in pieces, then what it cost; closing
        the iterator aborts the request.

        Errors: `PartFailed` when the engine has died or cannot take the request.
        """
        limit = SentenceLimit(self.config.max_sentences)
        limit.push(begun)
        opening = list(self._tokenizer.encode(begun, add_special_tokens=False)) if begun else []
        left = (max_tokens or self.config.max_tokens) - len(opening)
        if limit.left == 0 or left <= 0:
            return
        count = TokenCount(opening)
        async with aclosing(
            self._generate([*self._prompt(messages, self.config.max_tokens), *opening], left)
        ) as outputs:
            async for output in outputs:
                count.push(output)
                if text := limit.push(output.outputs[0].text):
                    yield text
                if limit.left == 0:
                    break
        yield count.usage

    async def chat(
        self, messages: Sequence[TemplateMessage], sampling: Sampling
    ) -> AsyncGenerator[str | Finished, None]:
        """Yield the answer to a chat of which nothing is left out, in pieces, then its end.

        Errors: as `reply`; `Unanswerable` when it is too long.
        """
        prompt = self._render(messages, open_turn=True)
        left = self.config.max_model_len - len(prompt)
        if left < 1:
            raise Unanswerable(f"the messages have {len(prompt)} tokens; the model reads {self.config.max_model_len}")
        budget, count = min(sampling.max_tokens or self.config.max_tokens, left), TokenCount()
        async with aclosing(self._generate(prompt, budget, **sampling_fields(sampling))) as outputs:
            async for output in outputs:
                count.push(output)
                if text := output.outputs[0].text:
                    yield text
        yield Finished(output.outputs[0].finish_reason, count.usage)

    async def warm(self, messages: Sequence[TemplateMessage]) -> None:
        """Compute what a reply to `messages` plus one more would start with, so that it starts sooner.

        Errors: as `reply`.
        """
        prompt = self._prompt(messages, self.config.max_tokens, open_turn=False)
        async with aclosing(self._generate(prompt, 1)) as outputs:
            async for _ in outputs:
                pass

    async def _generate(self, prompt: list[int], max_tokens: int, **wished: Any) -> AsyncGenerator[Any, None]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        own_stop = ["\nUser:"] if self._tokenizer.chat_template is None else []
        params = SamplingParams(
            **{**self._sampling, **wished, "stop": [*own_stop, *wished.get("stop", ())]},
            max_tokens=max_tokens,
            output_kind=RequestOutputKind.DELTA,
        )
        async with aclosing(self.engine.generate({"prompt_token_ids": prompt}, params)) as outputs:
            async for output in outputs:
                yield output

    def _prompt(self, messages: Sequence[TemplateMessage], max_tokens: int, open_turn: bool = True) -> list[int]:
        """Token ids of the newest messages that leave room for an answer."""
        room = self.config.max_model_len - max_tokens
        instructions = [m for m in messages if m[0] == "system"]
        dialogue = [m for m in messages if m[0] != "system"]
        newest = dialogue[-(HISTORY_MESSAGES + 1) :]
        while True:
            ids = self._render([*instructions, *newest], open_turn)
            if len(ids) <= room:
                return ids
            if len(newest) <= 1:
                break
            newest = newest[1:]
        shorter = [(role, self._shorten(text, len(ids) - room)) for role, text in newest]
        return self._render([*instructions, *shorter], open_turn)[-room:]

    def _shorten(self, text: str, n_tokens: int) -> str:
        """The end of `text`, where the question is, without its first `n_tokens` and a few for the seam."""
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return str(self._tokenizer.decode(ids[n_tokens + 8 :]))

    def _render(self, messages: Sequence[TemplateMessage], open_turn: bool) -> list[int]:
        from jinja2 import TemplateError  # comes with vLLM

        merged = merge_roles(messages)
        if self._tokenizer.chat_template is None:
            text = plain_dialogue(merged, open_turn)
            return list(self._tokenizer.encode(text))
        try:
            text = self._apply_template(merged, open_turn)
        except TemplateError:  # some templates (Gemma's) refuse system messages
            text = self._apply_template(system_as_user(merged), open_turn)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _apply_template(self, messages: Sequence[TemplateMessage], open_turn: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in messages],
                tokenize=False,
                add_generation_prompt=open_turn,
                enable_thinking=False,  # Qwen3's: thoughts are not for the ear; other templates ignore it
            )
        )


def merge_roles(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Neighbours of one role as one message, and a user first, as most templates insist."""
    merged: list[TemplateMessage] = []
    for role, text in messages:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, f"{merged[-1][1]}\n{text}")
        elif role != "assistant" or any(earlier == "user" for earlier, _ in merged):
            merged.append((role, text))
    return merged


def system_as_user(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    return merge_roles([("user" if role == "system" else role, text) for role, text in messages])


def plain_dialogue(messages: Sequence[TemplateMessage], open_turn: bool) -> str:
    """For models without a chat template."""
    lines = [text if role == "system" else f"{role.title()}: {text}" for role, text in messages]
    return "\n".join([*lines, "Assistant:"] if open_turn else lines)


def sampling_defaults(config: VllmTextConfig, models_own: dict[str, Any]) -> dict[str, Any]:
    """What the configuration says, else what the model says of itself, else vLLM's neutral values."""
    chosen = config.model_dump(include={"temperature", "top_p"}, exclude_none=True)
    return {name: value for name, value in models_own.items() if name != "max_tokens"} | chosen
