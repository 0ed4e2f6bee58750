"""A recipe: what is trained on which data, as a YAML file."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vita_duplex.train.formats import Folders
from vita_duplex.train.labels import LabelSettings

Part = Literal["text", "vision", "vision_projector", "audio", "audio_connector"]
PARTS: dict[Part, str] = {
    "text": "language_model.",
    "vision": "vision_tower.",
    "vision_projector": "vision_projector.",
    "audio": "audio_tower.encoder.",
    "audio_connector": "audio_tower.connector.",
}
"""The parts of the model, by the beginning of their parameters' names."""


class RecipeError(ValueError):
    """A recipe that cannot be followed; the text says why, in one line."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFile(_Section):
    path: Path = Field(description="a .json of VITA's format or a .jsonl of messages")
    ratio: float = Field(default=1.0, gt=0, le=1, description="share of its items, drawn by the seed (data_ratio)")


class Data(_Section):
    train: list[DataFile] = Field(min_length=1, description="what is learned from")
    check: list[DataFile] = Field(default=[], description="held out: recall and false takes are measured on these")
    folders: Folders = Folders()
    max_tiles: int = Field(default=12, ge=1, le=40, description="of a picture")


class Lora(_Section):
    """Low-rank adapters of the text model's linear layers, merged at export. Defaults: SoulX-Duplug's rank."""

    r: int = Field(default=32, ge=1)
    alpha: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)


class Recipe(_Section):
    model: Path = Field(description="the checkpoint to go on from")
    out: Path = Field(description="folder of the run: checkpoints, logs, curves")
    data: Data
    labels: LabelSettings = LabelSettings()
    learning_rates: dict[Part, float] = Field(description="of each part that is trained; other parts are frozen")
    lora: Lora | None = Field(default=None, description="adapters in place of the text model's own weights")
    epochs: float = Field(default=1.0, gt=0)
    steps: int | None = Field(default=None, ge=1, description="ends the run before its epochs")
    batch: int = Field(default=8, ge=1, description="items of each process at a time")
    accumulate: int = Field(default=1, ge=1, description="batches of a step")
    warmup: float = Field(default=0.03, ge=0, lt=1, description="share of the steps")
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    max_length: int = Field(
        default=6200, ge=64, description="tokens of an item, media included; longer ones are skipped"
    )
    check_every: int = Field(default=200, ge=1, description="steps between checks, and between checkpoints")
    keep: int = Field(default=2, ge=1, description="checkpoints kept; the best one always is")
    router_loss: bool = Field(default=True, description="balance the experts of a mixture (its own coefficient)")
    bf16: bool = True
    gradient_checkpointing: bool = True
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    workers: int = Field(default=2, ge=0, description="processes that load media")
    seed: int = 42

    @model_validator(mode="after")
    def _check_parts(self) -> "Recipe":
        if not self.learning_rates:
            raise ValueError("learning_rates: no part is trained")
        if self.lora and "text" not in self.learning_rates:
            raise ValueError("lora: its learning rate is learning_rates.text")
        if any(rate <= 0 for rate in self.learning_rates.values()):
            raise ValueError("learning_rates: a part that is frozen is left out; a rate is above 0")
        return self


def read_recipe(path: Path, changes: dict[str, Any] | None = None) -> Recipe:
    """Errors: `RecipeError`."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise RecipeError(f"{path}: wants the fields of a recipe")
        return Recipe.model_validate(fields | (changes or {}))
    except (OSError, yaml.YAMLError) as error:
        raise RecipeError(f"cannot read {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
