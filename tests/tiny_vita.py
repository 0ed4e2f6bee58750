"""The tiny checkpoint, and what the original made of it: `tests/golden/full_model` and its media."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from vita_duplex.models.tiling import mirror

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINT = GOLDEN / "tiny_vita"
RECORDED = load_file(GOLDEN / "full_model.safetensors")
TABLE: list[dict[str, Any]] = json.loads((GOLDEN / "full_model.json").read_text())["cases"]

FRAMES = ("frame0", "frame1", "frame2", "frame3")
MEDIA: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "text": ((), ()),
    "image": (("single",), ()),
    "image_tiled": (("multi",), ()),
    "audio": ((), ("wave_mid",)),
    "image_audio": (("single",), ("wave_mid",)),
    "video_audio": (FRAMES, ("wave_long",)),
    "history_two_audios": (FRAMES, ("wave_short", "wave_mid")),
    "two_turn_text_audio": ((), ("wave_short",)),
}
"""Pictures and clips of each case, in the order of its prompt."""


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
