"""VITA written down plainly, one medium at a time, from a checkpoint's own tensor names: what ours is held against at
sizes for which nothing is recorded. The text model is that of `transformers`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

AUDIO = "model.audio_encoder."
VISION = "model.vision_tower.vision_tower."
PROJECTOR = "model.mm_projector."


class PlainVita:
    """A `config.json` in the demo's layout and its tensors, in float32."""

    def __init__(self, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self._settings = settings
        self._tensors = {name: tensor.float() for name, tensor in tensors.items()}
        config = AutoConfig.for_model(**settings["text_config"])
        self._text = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        self._fill_text()

    def logits(self, ids: list[int], media: dict[int, list[Tensor]], last: int) -> Tensor:
        """Of the last positions, [last, vocabulary]; `media` are embeddings by placeholder, in the prompt's order."""
        expanded = torch.tensor(ids)
        with torch.inference_mode():
            embeds = self._text.get_input_embeddings()(expanded)
            for placeholder, items in media.items():
                embeds[expanded == placeholder] = torch.cat(items)
            found: Tensor = self._text(inputs_embeds=embeds[None]).logits[0, -last:]
        return found

    def heard(self, features: Tensor) -> Tensor:
        """Features of one clip, [frames, 80], as embeddings, [tokens, hidden]."""
        sizes = self._settings["audio_config"]
        width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
        core, encoders = f"{AUDIO}encoder.enc.0.core.", f"{AUDIO}encoder.enc.1."
        x = F.relu(F.conv2d(features[None, None], *self._both(f"{core}conv.0"), stride=2))
        x = F.relu(F.conv2d(x, *self._both(f"{core}conv.2"), stride=2))[0]  # [width, T2, 19]
        x = self._linear(f"{core}out.0", x.permute(1, 0, 2).reshape(x.shape[1], -1))
        x = F.relu(self._norm(f"{encoders}embed.1", self._linear(f"{encoders}embed.0", x), 1e-5)) * math.sqrt(width)
        place = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(0, width, 2) / width)
        table = torch.zeros(len(x), width)
        table[:, 0::2], table[:, 1::2] = place.sin(), place.cos()
        for number in range(sizes["num_hidden_layers"]):
            layer = f"{encoders}encoders.{number}."
            attention = f"{layer}self_attn."
            y = self._norm(f"{layer}norm1", x, 1e-5)
            q, k, v = (self._linear(f"{attention}linear_{one}", y) for one in "qkv")
            p = table @ self._tensors[f"{attention}linear_pos.weight"].T
            u, w = (self._tensors[f"{attention}pos_bias_{one}"] for one in "uv")
            outputs = []
            for head in range(heads):
                at = slice(head * width // heads, (head + 1) * width // heads)
                score = (q[:, at] + u[head]) @ k[:, at].T + (q[:, at] + w[head]) @ p[:, at].T
                outputs.append((score / math.sqrt(width // heads)).softmax(-1) @ v[:, at])
            x = x + self._linear(f"{attention}linear_out", torch.cat(outputs, -1))
            y = F.relu(self._linear(f"{layer}feed_forward.w_1", self._norm(f"{layer}norm2", x, 1e-5)))
            x = x + self._linear(f"{layer}feed_forward.w_2", y)
        x = self._norm(f"{encoders}after_norm", x, 1e-5)
        x = F.conv1d(F.pad(x.T, (0, 4)), *self._both(f"{AUDIO}adpter.conv1d2"), stride=2).T
        return self._linear(f"{AUDIO}adpter.project", F.gelu(self._norm(f"{AUDIO}adpter.bn2", x, 1e-3)))

    def seen(self, tiles: Tensor) -> Tensor:
        """Tiles of one picture, [tiles, 3, S, S], as embeddings, [tokens, hidden]."""
        return torch.cat([self._tile(tile) for tile in tiles])

    def _tile(self, pixels: Tensor) -> Tensor:
        sizes = self._settings["vision_config"]
        heads, eps = sizes["num_attention_heads"], sizes["layer_norm_eps"]
        embeddings = f"{VISION}embeddings."
        patches = F.conv2d(pixels[None], *self._both(f"{embeddings}patch_embedding"), stride=sizes["patch_size"])[0]
        side = patches.shape[1]
        x = torch.cat([self._tensors[f"{embeddings}class_embedding"][0], patches.flatten(1).T])
        x = x + self._tensors[f"{embeddings}position_embedding"][0]
        for number in range(sizes["num_hidden_layers"]):
            layer = f"{VISION}encoder.layers.{number}."
            q, k, v = self._linear(f"{layer}attn.qkv", self._norm(f"{layer}norm1", x, eps)).chunk(3, -1)
            outputs = []
            for one, other, value in zip(*(part.chunk(heads, -1) for part in (q, k, v)), strict=True):
                outputs.append((one @ other.T / math.sqrt(one.shape[-1])).softmax(-1) @ value)
            x = x + self._tensors[f"{layer}ls1"] * self._linear(f"{layer}attn.proj", torch.cat(outputs, -1))
            y = F.gelu(self._linear(f"{layer}mlp.fc1", self._norm(f"{layer}norm2", x, eps)))
            x = x + self._tensors[f"{layer}ls2"] * self._linear(f"{layer}mlp.fc2", y)
        grid = 0.5 * x[1:].unflatten(0, (side, side))
        cells = [
            torch.cat([grid[row, col], grid[row, col + 1], grid[row + 1, col], grid[row + 1, col + 1]])
            for row in range(0, side, 2)
            for col in range(0, side, 2)
        ]
        return self._linear(f"{PROJECTOR}2", F.gelu(self._linear(f"{PROJECTOR}0", torch.stack(cells))))

    def _both(self, name: str) -> tuple[Tensor, Tensor]:
        return self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, *self._both(name))

    def _norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self._both(name), eps)

    def _fill_text(self) -> None:
        """`transformers` keeps the experts of a layer together, under names of its own."""
        for name, parameter in self._text.state_dict().items():
            if name.endswith("mlp.experts.gate_up_proj"):
                parameter.copy_(self._experts(name, "w1", "w3"))
            elif name.endswith("mlp.experts.down_proj"):
                parameter.copy_(self._experts(name, "w2"))
            else:
                parameter.copy_(self._tensors[name.replace("mlp.gate.weight", "block_sparse_moe.gate.weight")])

    def _experts(self, name: str, *parts: str) -> Tensor:
        prefix = name.split("mlp.experts")[0] + "block_sparse_moe.experts."
        return torch.stack(
            [
                torch.cat([self._tensors[f"{prefix}{number}.{part}.weight"] for part in parts])
                for number in range(self._settings["text_config"]["num_local_experts"])
            ]
        )
