"""The tensors of a VITA checkpoint: what they are called, how large they are, and where they go.

The released folder and the original demo's have the same tensors. Source of the names: the release's
`model.safetensors.index.json`, https://github.com/VITA-MLLM/VITA (October 2024), misspellings included.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vita_duplex.models import audio_encoder
from vita_duplex.models.audio_encoder import CONNECTOR_KERNEL, SUBSAMPLED_BINS
from vita_duplex.models.tiling import MERGE

VISION = "model.vision_tower.vision_tower."
PROJECTOR = "model.mm_projector."
AUDIO = "model.audio_encoder."

PREFIXES: dict[str, str | None] = {
    VISION: "vision_tower.",
    f"{PROJECTOR}0.": "vision_projector.linear_1.",
    f"{PROJECTOR}2.": "vision_projector.linear_2.",
    **{AUDIO + name: None for name in audio_encoder.CHECKPOINT_UNUSED},
    **{AUDIO + theirs: f"audio_tower.{ours}" for theirs, ours in audio_encoder.CHECKPOINT_PREFIXES.items()},
    "lm_head": "language_model.lm_head",  # without a dot: a list of modules that stay unquantised has it, too
    "model.": "language_model.model.",
}
"""From a tensor's name to the parameter it fills, by its first part; None fills nothing. The first that fits counts."""

UNUSED = frozenset(AUDIO + name for name in audio_encoder.CHECKPOINT_UNUSED)
"""In the release, and not in the model."""

MOST_NAMED = 5
"""Tensors that an error names; it counts the rest."""

Shape = tuple[int, ...]


class CheckpointMismatch(ValueError):
    """The tensors of a checkpoint are not those that its configuration promises."""


def expected_shapes(config: Any) -> dict[str, Shape]:
    """Every tensor that the model of a `VitaConfig` is filled with."""
    text = config.text_config
    return dict(
        [
            *_text(text),
            *_vision(config.vision_config, text.hidden_size),
            *_audio(config.audio_config, text.hidden_size),
        ]
    )


def check_folder(folder: Path) -> None:
    """Hold a checkpoint's tensors against its configuration without loading them: only the headers are read.

    An engine in a process of its own says why it did not start in that process's log alone.

    Errors: `CheckpointMismatch`, also for a shard that is missing or damaged; `ValueError` for a `config.json` that
    cannot be. Other models than VITA are not looked at.
    """
    from vita_duplex.models.configuration import of_folder

    if config := of_folder(folder):
        checked = Checked(config)
        for _ in checked(headers(folder)):
            pass
        checked.finish()


@dataclass(frozen=True, slots=True)
class Header:
    """What a shard says of a tensor."""

    shape: Shape


def headers(folder: Path) -> Iterator[tuple[str, Header]]:
    """Every tensor of a folder. Errors: `CheckpointMismatch` for a shard that is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    listed = {folder / name for name in json.loads(index.read_text())["weight_map"].values()} if index.exists() else ()
    for shard in sorted(listed or folder.glob("*.safetensors")):
        if not shard.exists():
            raise CheckpointMismatch(f"the checkpoint lacks the file {shard.name}")
        try:
            with safe_open(shard, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no dict
                    yield name, Header(tuple(tensors.get_slice(name).get_shape()))
        except SafetensorError as exc:
            raise CheckpointMismatch(f"the checkpoint's file {shard.name} is damaged ({exc})") from exc


class Checked:
    """Looks at tensors while they are loaded, so that a wrong one is told by its name and none is forgotten."""

    def __init__(self, config: Any, *, some_experts: bool = False) -> None:
        """`some_experts`: with expert parallelism a process reads its own ones only."""
        self._expected = expected_shapes(config)
        tied = config.text_config.tie_word_embeddings  # some checkpoints have the copy, too
        self._unused = UNUSED | {"lm_head.weight"} if tied else UNUSED
        self._missing = set(self._expected)
        if some_experts:
            self._missing = {name for name in self._missing if ".experts." not in name}
        self._other_text = is_quantised(config)
        if self._other_text:  # packed weights and scales, each method with its own
            self._expected = {name: shape for name, shape in self._expected.items() if not is_text(name)}
            self._missing = set(self._expected)

    def __call__(self, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """Pass tensors on. Errors: `CheckpointMismatch` at the first that is unknown or has the wrong shape."""
        for name, tensor in weights:
            self._look_at(name, tuple(tensor.shape))
            yield name, tensor

    def finish(self) -> None:
        """All tensors were passed on. Errors: `CheckpointMismatch` when some are missing."""
        if self._missing:
            first = sorted(self._missing)[:MOST_NAMED]
            more = len(self._missing) - len(first)
            raise CheckpointMismatch(
                f"the checkpoint lacks {', '.join(first)}{f' and {more} more' if more else ''}; "
                "is a shard missing, or has config.json other sizes?"
            )

    def _look_at(self, name: str, shape: Shape) -> None:
        self._missing.discard(name)
        wanted = self._expected.get(name)
        if wanted is not None and shape != wanted:
            raise CheckpointMismatch(f"the checkpoint's {name} is {list(shape)}; config.json makes it {list(wanted)}")
        known = wanted is not None or name in self._unused or "rotary_emb." in name
        if not known and not (self._other_text and is_text(name)):
            raise CheckpointMismatch(f"the checkpoint has {name}, which this model has no place for")


def is_text(name: str) -> bool:
    """Whether a tensor belongs to the language model."""
    return not name.startswith((VISION, PROJECTOR, AUDIO))


def is_quantised(config: Any) -> bool:
    """Whether the checkpoint's language model is quantised; one that vLLM quantises while loading is not.

    The places where vLLM looks; the second name is that of older compressed-tensors.
    """
    names = "quantization_config", "compression_config"
    return any(getattr(part, name, None) for part in (config, config.text_config) for name in names)


def _text(text: Any) -> Iterator[tuple[str, Shape]]:
    hidden, inner = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    queries, keys = text.num_attention_heads * head, text.num_key_value_heads * head
    yield "model.embed_tokens.weight", (text.vocab_size, hidden)
    yield "model.norm.weight", (hidden,)
    if not text.tie_word_embeddings:
        yield "lm_head.weight", (text.vocab_size, hidden)
    attention_bias = text.model_type == "qwen2" or getattr(text, "attention_bias", False)
    for layer in range(text.num_hidden_layers):
        here = f"model.layers.{layer}."
        yield f"{here}input_layernorm.weight", (hidden,)
        yield f"{here}post_attention_layernorm.weight", (hidden,)
        for part, width in {"q": queries, "k": keys, "v": keys}.items():
            yield f"{here}self_attn.{part}_proj.weight", (width, hidden)
            if attention_bias:
                yield f"{here}self_attn.{part}_proj.bias", (width,)
        yield f"{here}self_attn.o_proj.weight", (hidden, queries)
        if attention_bias and text.model_type != "qwen2":
            yield f"{here}self_attn.o_proj.bias", (hidden,)
        if text.model_type == "mixtral":
            yield f"{here}block_sparse_moe.gate.weight", (text.num_local_experts, hidden)
            for expert in range(text.num_local_experts):
                one = f"{here}block_sparse_moe.experts.{expert}."
                yield f"{one}w1.weight", (inner, hidden)
                yield f"{one}w2.weight", (hidden, inner)
                yield f"{one}w3.weight", (inner, hidden)
            continue
        for part, out, into in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            yield f"{here}mlp.{part}_proj.weight", (out, into)
            if getattr(text, "mlp_bias", False):
                yield f"{here}mlp.{part}_proj.bias", (out,)


def _vision(vision: Any, text_hidden: int) -> Iterator[tuple[str, Shape]]:
    width, inner, patch = vision.hidden_size, vision.intermediate_size, vision.patch_size
    yield f"{VISION}embeddings.class_embedding", (1, 1, width)
    yield f"{VISION}embeddings.position_embedding", (1, (vision.image_size // patch) ** 2 + 1, width)
    yield from _linear(f"{VISION}embeddings.patch_embedding", (width, vision.num_channels, patch, patch))
    for layer in range(vision.num_hidden_layers):
        here = f"{VISION}encoder.layers.{layer}."
        yield f"{here}attn.qkv.weight", (3 * width, width)
        if vision.qkv_bias:
            yield f"{here}attn.qkv.bias", (3 * width,)
        yield from _linear(f"{here}attn.proj", (width, width))
        yield from _linear(f"{here}mlp.fc1", (inner, width))
        yield from _linear(f"{here}mlp.fc2", (width, inner))
        yield from _linear(f"{here}norm1", (width,))
        yield from _linear(f"{here}norm2", (width,))
        yield f"{here}ls1", (width,)
        yield f"{here}ls2", (width,)
    yield from _linear(f"{PROJECTOR}0", (text_hidden, MERGE * MERGE * width))
    yield from _linear(f"{PROJECTOR}2", (text_hidden, text_hidden))


def _audio(audio: Any, text_hidden: int) -> Iterator[tuple[str, Shape]]:
    width, inner, heads = audio.hidden_size, audio.intermediate_size, audio.num_attention_heads
    encoder = f"{AUDIO}encoder.enc."
    yield from _linear(f"{encoder}0.core.conv.0", (width, 1, 3, 3))
    yield from _linear(f"{encoder}0.core.conv.2", (width, width, 3, 3))
    yield from _linear(f"{encoder}0.core.out.0", (width, width * SUBSAMPLED_BINS))
    yield from _linear(f"{encoder}1.embed.0", (width, width))
    yield from _linear(f"{encoder}1.embed.1", (width,))
    yield from _linear(f"{encoder}1.after_norm", (width,))
    for layer in range(audio.num_hidden_layers):
        here = f"{encoder}1.encoders.{layer}."
        for part in ("q", "k", "v", "out"):
            yield from _linear(f"{here}self_attn.linear_{part}", (width, width))
        yield f"{here}self_attn.linear_pos.weight", (width, width)
        yield f"{here}self_attn.pos_bias_u", (heads, width // heads)
        yield f"{here}self_attn.pos_bias_v", (heads, width // heads)
        yield from _linear(f"{here}feed_forward.w_1", (inner, width))
        yield from _linear(f"{here}feed_forward.w_2", (width, inner))
        yield from _linear(f"{here}norm1", (width,))
        yield from _linear(f"{here}norm2", (width,))
    yield from _linear(f"{AUDIO}adpter.conv1d2", (2 * width, width, CONNECTOR_KERNEL))
    yield from _linear(f"{AUDIO}adpter.bn2", (2 * width,))
    yield from _linear(f"{AUDIO}adpter.project", (text_hidden, 2 * width))


def _linear(name: str, weight: Shape) -> Iterator[tuple[str, Shape]]:
    """A layer with a bias; its first dimension is what it gives."""
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]
