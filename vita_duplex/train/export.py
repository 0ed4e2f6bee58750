"""A run's best checkpoint in the layout of the release, for the server."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vita_duplex.models.checkpoint import UNUSED, check_folder
from vita_duplex.train.folder import load_model, tensors
from vita_duplex.train.model import VitaForTraining
from vita_duplex.train.recipe import Recipe, RecipeError
from vita_duplex.train.tensors import to_release

SHARD_BYTES = 5 * 10**9
COPIED = ("*.json", "*.model", "*.txt", "feature_extractor/*", "*.jinja")
"""Of the original folder: configuration and tokenizer. Weights and their index are written anew."""


def export(run: Path, target: Path, *, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the best checkpoint of a run as a folder that `vita-duplex serve --model` takes.

    Errors: `RecipeError` for a folder without a finished run; `FileExistsError` for a target that has files.
    """
    try:
        recipe = Recipe.model_validate_json((run / "recipe.json").read_text(encoding="utf-8"))
        best = json.loads((run / "report.json").read_text(encoding="utf-8"))["best"]
    except FileNotFoundError as error:
        raise RecipeError(f"{run} has no finished run: {Path(error.filename).name} is missing") from error
    checkpoint = Path(best) if best else max(run.glob("checkpoint-*"), key=lambda one: int(one.name.rsplit("-")[-1]))
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty")
    target.mkdir(parents=True, exist_ok=True)
    for pattern in COPIED:
        for file in recipe.model.glob(pattern):
            if file.name != "model.safetensors.index.json":
                (target / file.relative_to(recipe.model)).parent.mkdir(exist_ok=True)
                shutil.copy(file, target / file.relative_to(recipe.model))
    kept = ((name, tensor) for name, tensor in tensors(recipe.model) if name in UNUSED)
    _write(target, [*kept, *((n, t.to(dtype)) for n, t in to_release(_trained(recipe, checkpoint).state_dict()))])
    check_folder(target)
    return target


def _trained(recipe: Recipe, checkpoint: Path) -> VitaForTraining:
    """The model of a run with the weights of a checkpoint; adapters are merged."""
    model = load_model(recipe.model)
    if recipe.lora:
        from peft import PeftModel

        merged: VitaForTraining = PeftModel.from_pretrained(model, str(checkpoint)).merge_and_unload()
        return merged
    state = dict(tensors(checkpoint))
    missing, unknown = model.load_state_dict(state, strict=False)
    tied = model.config.text_config.tie_word_embeddings
    if unknown or [one for one in missing if not (tied and one.endswith("lm_head.weight"))]:
        raise RecipeError(f"{checkpoint} is damaged: {len(missing)} tensors are missing, {len(unknown)} unknown")
    return model


def _write(target: Path, named: Iterable[tuple[str, Tensor]]) -> None:
    """Shards of at most `SHARD_BYTES`, with their index."""
    shards = list(_shards(named))
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, target / name, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, name)
    size = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": index}, indent=1)
    (target / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _shards(named: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    for name, tensor in named:
        if shard and sum(one.nbytes for one in shard.values()) + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = tensor.contiguous()
    yield shard
