"""The tiny checkpoint, and what the original made of it: `tests/golden/full_model` and its media."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.paths import GOLDEN
from vita_duplex.engine.instances.vita import VitaInstanceConfig
from vita_duplex.engine.instances.vllm_engine import set_environment
from vita_duplex.models.checkpoint import AUDIO, PROJECTOR, VISION
from vita_duplex.models.tiling import mirror

CHECKPOINT = GOLDEN / "tiny_vita"
RECORDED = load_file(GOLDEN / "full_model.safetensors")
TABLE: list[dict[str, Any]] = json.loads((GOLDEN / "full_model.json").read_text())["cases"]

VOCABULARY = 512
TOLERANCE = 1e-3
"""Of logits in float32, which are up to 9; two ways of the original differ by 1.2e-5."""

FRAMES = ("frame0", "frame1", "frame2", "frame3")
MEDIA: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "text": ((), ()),
    "image": (("single",), ()),
    "image_tiled": (("multi",), ()),
    "audio": ((), ("wave_mid",)),
    "image_audio": (("single",), ("wave_mid",)),
    "video_audio": (FRAMES, ("wave_long",)),
    "history_two_audios": (FRAMES, ("wave_short", "wave_mid")),
    "history_two_audios_demo": (FRAMES, ("wave_short", "wave_mid")),
    "audio_history": ((), ("wave_long", "wave_short")),
    "two_turn_text_audio": ((), ("wave_short",)),
}
"""Pictures and clips of each case of both versions, in the order of its prompt."""


@cache
def weights() -> dict[str, Tensor]:
    """Every tensor of the checkpoint, as stored: bfloat16."""
    return {name: one for shard in sorted(CHECKPOINT.glob("*.safetensors")) for name, one in load_file(shard).items()}


def source(name: str) -> Tensor:
    """A picture, uint8 [H, W, 3], or a clip, float32 at 16 kHz."""
    return RECORDED[f"src.{name}"]


def picture(name: str) -> Image.Image:
    return Image.fromarray(source(name).numpy())


@dataclass(frozen=True)
class Case:
    """One prompt of the recorded ones."""

    name: str
    prompt: str
    """With `<image>` and `<audio>`; BOS is not in it."""
    max_tiles: int
    mirrored: bool
    greedy: list[int]
    margins: list[float]
    """By how much each greedy token was ahead of the second."""

    def tensor(self, name: str) -> Tensor:
        return RECORDED[f"{self.name}.{name}"]

    def ids(self, name: str) -> list[int]:
        found: list[int] = self.tensor(name).tolist()
        return found

    def media(self) -> dict[str, list[Any]]:
        """As vLLM takes them."""
        shown, heard = MEDIA[self.name]
        pictures = [picture(name) for name in shown]
        found = {
            "image": [mirror(one) for one in pictures] if self.mirrored else pictures,
            "audio": [source(name).numpy() for name in heard],
        }
        return {modality: items for modality, items in found.items() if items}

    def request(self) -> dict[str, Any]:
        """The prompt as ids, one for each medium, and the media."""
        return {
            "prompt_token_ids": self.ids("prompt_ids"),
            "multi_modal_data": self.media(),
            "mm_processor_kwargs": {"max_dynamic_patch": self.max_tiles},
        }


CASES = {
    row["name"]: Case(
        row["name"],
        row["prompt"],
        row["max_dynamic_patch"],
        row["mirrored"],
        row["greedy_ids"],
        row["greedy_margins"],
    )
    for row in TABLE
}


def written(folder: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """A checkpoint with the tiny one's tokenizer."""
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
"""Of another text model behind the same towers."""


def random_weights(text: Any) -> Any:
    """A text model of `transformers` with weights none of which is too small to be seen."""
    torch.manual_seed(0)
    for parameter in text.eval().parameters():
        parameter.data.normal_(std=0.3) if parameter.ndim > 1 else parameter.data.uniform_(0.5, 1.5)
    return text


def with_towers(text: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of another text model, and the tiny checkpoint's others."""
    towers = {name: tensor for name, tensor in weights().items() if name.startswith((VISION, PROJECTOR, AUDIO))}
    return towers | {name: tensor.contiguous() for name, tensor in text}


def text_logits(text: Any, case: Case) -> Tensor:
    """What another text model makes of a prompt and the recorded embeddings of its media, [16, VOCABULARY].

    These hang on the towers alone.
    """
    ids = torch.tensor(case.ids("expanded_ids"))
    with torch.inference_mode():
        embeds = text.get_input_embeddings()(ids)
        for modality, placeholder in (("image", 500), ("audio", 501)):
            if modality in case.media():
                embeds[ids == placeholder] = case.tensor(f"{modality}_embeds").flatten(0, -2)
        found: Tensor = text(inputs_embeds=embeds[None]).logits[0, -16:]
    return found


@contextmanager
def engine(checkpoint: Path = CHECKPOINT, **settings: Any) -> Iterator[Any]:
    """A `vllm.LLM` in this process. Its "logprobs" are logits, of every token when asked for `VOCABULARY`.

    The end of one ends the process groups of all others: let them end together.
    """
    set_environment(VitaInstanceConfig(model=str(checkpoint)))
    torch.set_num_threads(1)  # so small a model is slower on two, and much slower where others are at work
    from vllm import LLM

    llm = LLM(
        **{
            "model": str(checkpoint),
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 4096,
            "block_size": 32,
            "kv_cache_memory_bytes": 64 * 2**20,
            "max_logprobs": VOCABULARY,
            "logprobs_mode": "raw_logits",
            "limit_mm_per_prompt": {"image": 16, "audio": 4, "video": 2},
            "use_tqdm_on_load": False,
        }
        | settings
    )
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()


@contextmanager
def unfilled_model(folder: Path, config: dict[str, Any], device: str = "meta", **settings: Any) -> Iterator[Any]:
    """The model of a `config.json` as vLLM builds it, of its size, without an engine and without weights."""
    set_environment(VitaInstanceConfig(model=str(CHECKPOINT)))
    from vllm.config import set_current_vllm_config
    from vllm.distributed import (
        cleanup_dist_env_and_memory,
        ensure_model_parallel_initialized,
        init_distributed_environment,
    )
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    arguments = {"dtype": "bfloat16", "enforce_eager": True, "kv_cache_memory_bytes": 2**26} | settings
    built = EngineArgs(model=str(written(folder / "unfilled", config, {})), **arguments).create_engine_config()
    try:
        with set_current_vllm_config(built):
            init_distributed_environment(1, 0, f"file://{folder}/meet", 0, "gloo")
            ensure_model_parallel_initialized(1, 1)
            with set_default_torch_dtype(built.model_config.dtype), torch.device(device):
                yield initialize_model(built)
    finally:
        cleanup_dist_env_and_memory()


def greedy(max_tokens: int = 12, *, all_logits: bool = False, vocabulary: int = VOCABULARY) -> Any:
    """Sampling that also returns the logits: of what it generates, and of the prompt with `all_logits`.

    vLLM does not read its prefix cache for a request that wants logits of the prompt.
    """
    from vllm import SamplingParams

    return SamplingParams(
        max_tokens=max_tokens,
        temperature=0,
        ignore_eos=True,
        logprobs=vocabulary,
        prompt_logprobs=vocabulary if all_logits else None,
        flat_logprobs=True,
        detokenize=False,  # 300,000 objects, and their names, take seconds
    )


def logits(output: Any, rows: int = 1, vocabulary: int = VOCABULARY) -> Tensor:
    """Of the last so many positions of a prompt, [rows, vocabulary]; more than one only with `all_logits`."""
    places = [(output.prompt_logprobs, place) for place in range(1 - rows, 0)] + [(output.outputs[0].logprobs, 0)]
    found = torch.full((rows, vocabulary), torch.nan)
    for row, (told, place) in zip(found, places, strict=True):
        span = slice(told.start_indices[place], told.end_indices[place])
        row[told.token_ids[span]] = torch.tensor(told.logprobs[span])
    return found


def check_everywhere(found: Tensor, likeliest: Tensor, last: Tensor, error: float) -> None:
    """Hold the logits of all positions, [positions, vocabulary], against the recorded likeliest token of each, wherever
    it is ahead by more than the error can be, and the last against its recorded log-probabilities."""
    assert len(found) == len(likeliest)
    first, second = found.topk(2).values.T
    sure = first - second > 10 * error
    assert sure.float().mean() > 0.9
    assert torch.equal(found.argmax(-1)[sure], likeliest[sure])
    assert float((found[-1].log_softmax(-1) - last).abs().max()) <= TOLERANCE


class Watch:
    """What reaches the text model and the audio tower, and what becomes of it in the text model's two layers."""

    def __init__(self, llm: Any) -> None:
        self.embeds: list[Tensor] = []
        """Of each step, [tokens, hidden]."""
        self.hidden: list[Tensor] = []
        """Of each step, after the first layer and after the last norm, [tokens, hidden]."""
        self.clips: list[list[int]] = []
        """Of each run of the audio tower, frames of its clips."""
        self._hooks: list[Any] = []
        llm.apply_model(self._attach)

    def _attach(self, model: Any) -> None:
        text = model.language_model.model
        self._hooks += [
            model.register_forward_pre_hook(
                lambda _module, _given, named: self.embeds.append(named["inputs_embeds"].clone()), with_kwargs=True
            ),
            # The residual stream is passed along beside what a layer adds to it.
            text.layers[0].register_forward_hook(lambda _module, _given, out: self.hidden.append(out[0] + out[1])),
            text.norm.register_forward_hook(lambda _module, _given, out: self.hidden.append(out[0].clone())),
            model.audio_tower.encoder.register_forward_pre_hook(lambda _module, given: self.clips.append(given[1])),
        ]

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def check(case: Case, output: Any, rows: int = 1) -> float:
    """Hold an answer of vLLM against the recorded one; returns the largest difference of logits."""
    assert output.prompt_token_ids == case.ids("expanded_ids")
    error = float((logits(output, rows) - case.tensor("logits_last16")[-rows:]).abs().max())
    assert error <= TOLERANCE
    sure = sum(1 for _ in takewhile(lambda margin: margin > 10 * error, case.margins))
    assert sure > 0
    assert list(output.outputs[0].token_ids)[:sure] == case.greedy[:sure]
    return error
