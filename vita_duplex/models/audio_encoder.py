"""The audio tower of VITA ("whale"): features become tokens of the language model, one for every 80 ms.

Convolutions that keep every fourth frame, a transformer, and a connector that keeps every second of its outputs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_duplex.models.audio_features import BINS, MIN_FRAMES, AudioTooShort

CONNECTOR_EPS = 1e-3
CONNECTOR_KERNEL = 5
SUBSAMPLED_BINS = ((BINS - 1) // 2 - 1) // 2

CHECKPOINT_PREFIXES = {
    "encoder.enc.0.core.conv.": "encoder.subsampling.conv.",
    "encoder.enc.0.core.out.0.": "encoder.subsampling.out.",
    "encoder.enc.1.embed.": "encoder.embed.",
    "encoder.enc.1.encoders.": "encoder.layers.",
    "encoder.enc.1.after_norm.": "encoder.after_norm.",
    "adpter.conv1d2.": "connector.conv.",
    "adpter.bn2.": "connector.norm.",
    "adpter.project.": "connector.project.",
}
"""From the release's names, after `model.audio_encoder.`, to those of `AudioTower`. What follows a prefix is equal."""

CHECKPOINT_UNUSED = frozenset({"encoder.global_cmvn.mean", "encoder.global_cmvn.istd"})
"""Rounded copies of the statistics that the features are normalised with."""


def tower_name(checkpoint_name: str) -> str | None:
    """The parameter of `AudioTower` that a tensor of the release fills; None for the two that fill none."""
    if checkpoint_name in CHECKPOINT_UNUSED:
        return None
    for theirs, ours in CHECKPOINT_PREFIXES.items():
        if checkpoint_name.startswith(theirs):
            return ours + checkpoint_name.removeprefix(theirs)
    raise KeyError(f"the audio tower has no place for {checkpoint_name!r}")


@dataclass(frozen=True, slots=True)
class AudioTowerConfig:
    """Sizes; the defaults are the release's."""

    hidden: int = 1024
    layers: int = 24
    heads: int = 16
    feed_forward: int = 4096
    text_hidden: int = 4096
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.hidden % self.heads or self.hidden % 2:
            raise ValueError(f"an audio width of {self.hidden} does not go into {self.heads} heads")
        if 4 * self.hidden < self.text_hidden:  # the original then has a second convolution in its connector
            raise ValueError(f"an audio width of {self.hidden} is too narrow for a text model of {self.text_hidden}")

    @classmethod
    def of_settings(cls, audio_config: Mapping[str, object], text_hidden: int) -> "AudioTowerConfig":
        """From a checkpoint's `audio_config`. `qkv_bias` says false there, yet the tensors have biases."""
        for name, only in _ONLY.items():
            if audio_config.get(name, only) != only:
                raise ValueError(f"audio_config.{name} is {audio_config[name]!r}; only {only!r} is implemented")

        def number(name: str, default: float) -> float:
            value = audio_config.get(name, default)
            if not isinstance(value, int | float) or value <= 0:
                raise ValueError(f"audio_config.{name} is {value!r}, not a positive number")
            return value

        return cls(
            hidden=int(number("hidden_size", 1024)),
            layers=int(number("num_hidden_layers", 24)),
            heads=int(number("num_attention_heads", 16)),
            feed_forward=int(number("intermediate_size", 4096)),
            text_hidden=text_hidden,
            eps=float(number("layer_norm_eps", 1e-5)),
        )


_ONLY: dict[str, object] = {
    "input_dim": BINS,
    "num_channels": 1,
    "hidden_act": "relu",
    "norm_type": "layer_norm",
    "normalize_before": True,
    "concat_after": False,
    "use_relative_pe": True,
    "qk_normalization": False,
}


class AudioTower(nn.Module):
    """Encoder and connector. A clip's tokens do not depend on the batch that it is in."""

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.connector = Connector(config)

    def encode(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """The tokens of each clip, [tokens, text_hidden], from its features, [frames, 80]."""
        if not clips:
            return []
        features = nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
        tokens, counts = self(features, [len(clip) for clip in clips])
        return [row[:count] for row, count in zip(tokens, counts, strict=True)]

    def forward(self, features: Tensor, frames: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Tokens of a batch, [B, T, 80] -> [B, tokens, text_hidden], and how many of each row count."""
        x, lengths = self.encoder(features, frames)
        tokens, counts = self.connector(x, lengths)
        return tokens, counts


class Encoder(nn.Module):
    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        width = config.hidden
        self.subsampling = Subsampling(width)
        self.embed = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width, eps=config.eps), nn.ReLU())
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.after_norm = nn.LayerNorm(width, eps=config.eps)

    def forward(self, features: Tensor, frames: Sequence[int]) -> tuple[Tensor, list[int]]:
        for count in frames:
            if count < MIN_FRAMES:
                raise AudioTooShort(count * 160)
        lengths = [((count - 1) // 2 - 1) // 2 for count in frames]
        x = self.subsampling(features.to(self.after_norm.weight))
        x = self.embed(x) * math.sqrt(x.shape[-1])
        table = positions(x.shape[1], x.shape[2], x.device).to(x.dtype)
        padding = _padding(lengths, x)
        for layer in self.layers:
            x = layer(x, table, padding)
        return self.after_norm(x), lengths


class Subsampling(nn.Module):
    """Two convolutions without padding: four frames become one, 80 bins become 19."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, width, 3, stride=2), nn.ReLU()
        )
        self.out = nn.Linear(width * SUBSAMPLED_BINS, width)

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv(features[:, None])  # [B, T, 80] -> [B, D, T/4, 19]
        return self.out(x.transpose(1, 2).flatten(2))  # -> [B, T/4, 19D] -> [B, T/4, D]


class Layer(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config.hidden, config.heads)
        self.feed_forward = FeedForward(config.hidden, config.feed_forward)
        self.norm1 = nn.LayerNorm(config.hidden, eps=config.eps)
        self.norm2 = nn.LayerNorm(config.hidden, eps=config.eps)

    def forward(self, x: Tensor, table: Tensor, padding: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.norm1(x), table, padding)
        return x + self.feed_forward(self.norm2(x))


class Attention(nn.Module):
    """Attention whose scores are (q + u)·k + (q + v)·p.

    Transformer-XL's formula, but p is the sinusoid of the key's *own* index, not of its distance to the query: the
    original leaves out the shift that would make it relative, and was trained so.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(heads, width // heads))

    def forward(self, x: Tensor, table: Tensor, padding: Tensor | None) -> Tensor:
        q, k, v = (self._split(linear(x)) for linear in (self.linear_q, self.linear_k, self.linear_v))
        p = self._split(self.linear_pos(table)[None])
        # [B, heads, T, T], by far the largest tensor here: 0.8 GB in bfloat16 for the longest clip, 200 s. No copies.
        bias = ((q + self.pos_bias_v[:, None]) / math.sqrt(q.shape[-1])) @ p.transpose(-1, -2)
        if padding is not None:
            bias.masked_fill_(padding[:, None, None], float("-inf"))
        x = F.scaled_dot_product_attention(q + self.pos_bias_u[:, None], k, v, attn_mask=bias)
        return self.linear_out(x.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, T, D] -> [B, heads, T, D/heads]


class FeedForward(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, inner)
        self.w_2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.relu(self.w_1(x)))


class Connector(nn.Module):
    """Halves the rate and goes to the width of the text model.

    The original calls its padding left; its zeros are all on the right.
    """

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        width = config.hidden
        self.conv = nn.Conv1d(width, 2 * width, CONNECTOR_KERNEL, stride=2)
        self.norm = nn.LayerNorm(2 * width, eps=CONNECTOR_EPS)
        self.project = nn.Linear(2 * width, config.text_hidden)

    def forward(self, x: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        padding = _padding(lengths, x)
        if padding is not None:  # a longer clip's neighbour sees after its end what it would see alone: zeros
            x = x.masked_fill(padding[..., None], 0)
        x = self.conv(F.pad(x.transpose(1, 2), (0, CONNECTOR_KERNEL - 1))).transpose(1, 2)
        return self.project(F.gelu(self.norm(x))), [(length - 1) // 2 + 1 for length in lengths]


def positions(count: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Sinusoids, sine and cosine alternating, [count, width], in float32."""
    pairs = torch.arange(0, width, 2, dtype=torch.float32, device=device)
    frequency = torch.exp(pairs * -(math.log(10000.0) / width))
    angle = torch.arange(count, dtype=torch.float32, device=device)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def _padding(lengths: Sequence[int], x: Tensor) -> Tensor | None:
    """True where a row of [B, T, D] is beyond its clip; None where all clips are equally long."""
    if all(length == x.shape[1] for length in lengths):
        return None
    return torch.arange(x.shape[1], device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
