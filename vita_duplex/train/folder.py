"""A checkpoint's folder to the model for training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from vita_duplex.models.checkpoint import CheckpointMismatch, check_folder
from vita_duplex.models.configuration import of_folder, register
from vita_duplex.train.model import VitaForTraining
from vita_duplex.train.tensors import to_model


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32, **kwargs: Any) -> VitaForTraining:
    """The model with a checkpoint's weights. `kwargs` go to the text model (`attn_implementation`).

    Errors: `CheckpointMismatch` for a folder that is not VITA's or whose tensors do not fit its `config.json`.
    """
    register()
    config = of_folder(folder)
    if config is None:
        raise CheckpointMismatch(f"{folder} is no checkpoint of VITA")
    check_folder(folder)
    model: VitaForTraining = VitaForTraining(config, **kwargs).to(dtype)
    missing, unknown = model.load_state_dict(to_model(tensors(folder)), strict=False)
    left = [
        name for name in missing if not name.endswith("lm_head.weight") or not config.text_config.tie_word_embeddings
    ]
    if left or unknown:
        raise CheckpointMismatch(f"{folder}: not filled {left[:5]}, no place for {unknown[:5]}")
    model.tie_weights()
    return model


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint; code that the folder brings along is not run."""
    register()
    return AutoTokenizer.from_pretrained(folder, config=of_folder(folder), trust_remote_code=False)


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a folder of safetensors, shard by shard."""
    index = folder / "model.safetensors.index.json"
    listed = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else set()
    for shard in sorted(folder / name for name in listed) or sorted(folder.glob("*.safetensors")):
        yield from load_file(shard).items()
