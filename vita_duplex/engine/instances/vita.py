"""VITA in vLLM: one model that hears, judges and answers. Written for vLLM 0.32.

An answer takes two requests. The first lets the model choose among the three state tokens only, and its
probabilities are the verdict. The second, the same prompt with `<1>` behind it, is the answer; it is sent when
somebody wants it, and the prefix cache leaves it a few tokens to compute.
"""

import asyncio
import json
import secrets
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.vita_chat import Reading, body
from vita_duplex.engine.instances.vita_dialogue import (
    Count,
    Layout,
    Manner,
    Unmarked,
    Written,
    as_shown,
    heard,
    is_spoken,
    opening,
    seen,
    weighed,
    write,
    write_ahead,
)
from vita_duplex.engine.instances.vllm_engine import TokenCount, VllmConfig, VllmEngine, first_line, on_cpu
from vita_duplex.engine.messages import (
    Call,
    Chat,
    Finished,
    LeftOut,
    Pixels,
    Query,
    Usage,
    Verdict,
)
from vita_duplex.engine.ports import PartFailed, Progress
from vita_duplex.models.audio_features import MIN_SAMPLES, clip_tokens
from vita_duplex.models.prompts import Prompt, wording
from vita_duplex.models.tiling import Tiling
from vita_duplex.models.tokens import state_tokens, tokenise

PART = "VITA model"

TYPED = Verdict(0.0, 0.0, 1.0)
"""Nobody types by accident."""

AHEAD_TOKENS = 128
"""Left free where a prompt is computed ahead, for the ten seconds of speech that will follow it."""

MEDIA_LIMIT = 256
"""Pictures, sounds, films in one prompt; the original's number. `max_model_len` is the real limit."""


class VitaInstanceConfig(VllmConfig):
    """Which checkpoint listens and answers, and on what."""

    model: str = "demo_VITA_ckpt"
    """A folder in the released layout or the demo's, or a name on the Hugging Face hub."""
    max_model_len: int = Field(8192, ge=1024)
    """Tokens of dialogue and answer together: 12.5 for a second of audio, 256 for a tile of a picture."""
    max_num_seqs: int = Field(16, ge=1)
    """Requests computed at the same time; more wait."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs of one instance. Each instance takes the next ones of CUDA_VISIBLE_DEVICES."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    """Share of each GPU's memory for weights and tokens together."""
    quantization: str | None = None
    """Quantisation of the text model, as vLLM names it (fp8_per_tensor …). None is what the checkpoint says."""
    max_dynamic_patch: int | None = Field(None, ge=1, le=40)
    """Most tiles of a picture; live talk wants 1. None is what the checkpoint says."""
    max_tokens: int = Field(512, ge=1, le=4096)
    """Longest answer, in tokens."""
    layout: Layout = "interactive"
    """How a query is written: `interactive` for live talk, `conversation` for questions about pictures and films."""


class Names:
    """A name for each medium, for as long as it lives; vLLM knows a medium again by it.

    Unguessable, because vLLM believes them: whoever else used a name would get the sound behind it. By identity,
    not by content or utterance: an utterance that grew is another array, and nothing has to be hashed.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def of(self, medium: Samples | Pixels) -> str:
        key = id(medium)
        if key not in self._names:
            self._names[key] = secrets.token_hex(16)
            weakref.finalize(medium, self._names.pop, key, None).atexit = False
        return self._names[key]


class VitaInstance:
    """One engine with a VITA checkpoint."""

    sees = True
    follows_schemas = False  # a state token stands before its answers
    calls = False

    def __init__(self, name: str, config: VitaInstanceConfig, engine: VllmEngine) -> None:
        self.name = name
        self.engine = engine
        self._config = config
        self._model: Any = engine.model_config.hf_config  # a models.configuration.VitaConfig
        self._manner = Manner(wording(self._model.prompt_style), config.layout)
        self._tokenizer = engine.tokenizer
        self._states = state_tokens(self._tokenizer, self._manner.wording)
        vision = self._model.vision_config
        self._tiling = Tiling(
            config.max_dynamic_patch or self._model.max_dynamic_patch,
            self._model.min_dynamic_patch,
            vision.image_size,
            vision.patch_size,
            self._model.use_thumbnail,
        )
        self._names = Names()

    @classmethod
    def load(cls, name: str, config: VitaInstanceConfig, first_gpu: int, progress: Progress) -> "VitaInstance":
        """Start the engine, as `VllmEngine.load`; `first_gpu` is how many GPUs other instances have taken.

        Errors: `PartFailed`, also when the folder has no VITA in it.
        """
        config = config.model_copy(update={"max_model_len": min(config.max_model_len, positions(Path(config.model)))})
        engine = VllmEngine.load(PART, config, engine_arguments(config, first_gpu), progress)
        import vllm.renderers.online_renderer  # noqa: F401 - takes a second, which `chat` has not on the event loop

        if not hasattr(engine.model_config.hf_config, "audio_token_index"):
            engine.shutdown()
            raise PartFailed(PART, f"{config.model} is no VITA checkpoint; for a text model say engine.kind=text")
        try:
            return cls(name, config, engine)
        except ValueError as exc:  # a prompt style or state tokens that are not there
            engine.shutdown()
            raise PartFailed(PART, f"{config.model}: {exc}") from exc

    @property
    def healthy(self) -> bool:
        return self.engine.healthy

    def close(self) -> None:
        self.engine.shutdown()

    def restart(self) -> None:
        self.engine.restart()

    async def warm(self, query: Query) -> None:
        """Compute everything that stands before the next sound, frames included."""
        prompt, _ = self._fitted(write_ahead, query, self._room - AHEAD_TOKENS)
        async with aclosing(self._outputs(prompt, (), max_tokens=1)) as outputs:
            async for _ in outputs:
                pass

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Call | Usage | LeftOut]:
        prompt, left_out = self._fitted(write, query, self._room)
        if left_out:
            yield LeftOut(left_out)
        so_far = query.answer_so_far
        if so_far is None:
            yield await self._judge(prompt) if is_spoken(query) else TYPED
        state = opening(query, prompt)
        async with aclosing(
            self._speak(prompt, self._states.ids[state] if state else (), so_far or "", query.max_tokens)
        ) as deltas:
            async for delta in deltas:
                yield delta

    def _fitted(self, write: Callable[[Query, Manner, int, Count], Written], query: Query, room: int) -> Written:
        """Errors: `PartFailed` when a medium cannot be used or the query alone is longer than the model reads."""
        try:
            written = write(query, self._manner, room, self._count)
            length = self._count(written.prompt)
        except ValueError as exc:  # a picture without pixels, ten minutes of sound …
            raise PartFailed(PART, first_line(exc)) from exc
        if length > room:
            raise PartFailed(PART, f"the question has {length} tokens; there is room for {room}")
        return written

    async def _judge(self, prompt: Prompt) -> Verdict:
        """The verdict, from a request that can only answer with a state token."""
        deciding = list(self._states.deciding.values())
        choice = {"allowed_token_ids": deciding, "logprob_token_ids": deciding, "detokenize": False}
        rows: list[Any] = []
        async with aclosing(self._outputs(prompt, self._states.shared, max_tokens=1, **choice)) as outputs:
            async for output in outputs:
                rows += output.outputs[0].logprobs
        return weighed({state: rows[0][one].logprob for state, one in self._states.deciding.items()})

    async def _speak(
        self, prompt: Prompt, state: Sequence[int], so_far: str, max_tokens: int | None
    ) -> AsyncGenerator[str | Usage, None]:
        """The answer that goes on from its state token and its beginning, in pieces."""
        text = Unmarked(self._manner.wording, so_far)
        begun = self._tokenizer.encode(so_far, add_special_tokens=False) if so_far else []
        if (left := min(self._config.max_tokens, max_tokens or self._config.max_tokens) - len(begun)) <= 0:
            return
        opening = [*state, *begun]
        count = TokenCount(opening)
        async with aclosing(self._outputs(prompt, opening, max_tokens=left)) as outputs:
            async for output in outputs:
                count.push(output)
                if piece := text.push(output.outputs[0].text):
                    yield piece
        if piece := text.finish():
            yield piece
        yield count.usage

    async def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Call | Finished]:
        reading, count = Reading(chat, self._manner.wording, self._states), TokenCount()
        deciding = self._states.deciding
        request = await asyncio.to_thread(body, chat, self._states, self._config.max_tokens)
        async with aclosing(self.engine.chat(request)) as outputs:
            async for output in outputs:
                count.push(output)
                [said] = output.outputs
                rows = [{state: row[one].logprob for state, one in deciding.items()} for row in said.logprobs]
                for item in reading.push(said.text, rows):
                    yield item
        if piece := reading.finish():
            yield piece
        yield Finished(said.finish_reason, count.usage)

    async def _outputs(self, prompt: Prompt, opening: Sequence[int], **sampling: Any) -> AsyncGenerator[Any, None]:
        """What vLLM makes of a prompt and the first ids of its answer."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # The original samples at a temperature of 0.001, which is greedy but for ties.
        params = SamplingParams(temperature=0, output_kind=RequestOutputKind.DELTA, **sampling)
        async with aclosing(self.engine.generate(self._request(prompt, opening), params)) as outputs:
            async for output in outputs:
                yield output

    def _request(self, prompt: Prompt, opening: Sequence[int]) -> dict[str, Any]:
        """The prompt as vLLM takes it: ids, media in order, and their names.

        The media go along every time, for they are only passed by reference: vLLM leaves those alone whose names it
        knows, and there is no way of naming one that it has forgotten.
        """
        request: dict[str, Any] = {"prompt_token_ids": [*self._ids(prompt), *opening]}
        media: dict[str, list[Any]] = {
            "image": [Image.fromarray(as_shown(frame, self._manner)) for frame in seen(prompt)],
            "audio": [audible(samples) for samples in heard(prompt)],
        }
        names = {
            "image": [self._names.of(frame) for frame in seen(prompt)],
            "audio": [self._names.of(samples) for samples in heard(prompt)],
        }
        request["multi_modal_data"] = {modality: items for modality, items in media.items() if items}
        request["multi_modal_uuids"] = {modality: items for modality, items in names.items() if items}
        return request

    @property
    def _room(self) -> int:
        """Tokens of the longest prompt that leaves room for a whole answer."""
        longest_state = max(map(len, self._states.ids.values()))
        return self._config.max_model_len - self._config.max_tokens - longest_state

    def _ids(self, prompt: Prompt) -> list[int]:
        """One id for each medium, those that the model's processor has added to the tokenizer: no text becomes one."""
        words = [prompt.wording.image_placeholder, prompt.wording.audio_placeholder]
        image, audio = self._tokenizer.convert_tokens_to_ids(words)
        return tokenise(prompt, self._tokenizer, image_id=image, audio_id=audio).ids

    def _count(self, prompt: Prompt) -> int:
        """Tokens of a prompt, media expanded."""
        pictures = sum(self._tiling.tokens(frame.shape[1], frame.shape[0]) for frame in seen(prompt))
        sounds = sum(clip_tokens(len(audible(samples))) for samples in heard(prompt))
        return len(self._ids(prompt)) - len(prompt.images) - len(prompt.audios) + pictures + sounds


def audible(samples: Samples) -> Samples:
    """The samples, with silence behind them if there are too few for a single token (85 ms): a cough is judged, too."""
    return np.pad(samples, (0, max(0, MIN_SAMPLES - len(samples))))


def positions(folder: Path) -> int:
    """How many tokens a checkpoint's text model can tell apart, in either layout; the release's number if unknown."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return int(settings.get("text_config", settings)["max_position_embeddings"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return 32_768  # vLLM finds the right words for a folder that is broken


def engine_arguments(config: VitaInstanceConfig, first_gpu: int) -> dict[str, Any]:
    """What VITA adds to the engine's arguments."""
    processing = {"max_dynamic_patch": config.max_dynamic_patch}
    arguments: dict[str, Any] = {
        "tensor_parallel_size": config.tensor_parallel_size,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "quantization": config.quantization,
        "limit_mm_per_prompt": {"image": MEDIA_LIMIT, "audio": MEDIA_LIMIT, "video": MEDIA_LIMIT},
        "mm_processor_kwargs": {name: value for name, value in processing.items() if value is not None},
    }
    if not on_cpu():
        arguments["device_ids"] = list(range(first_gpu, first_gpu + config.tensor_parallel_size))
    return arguments
