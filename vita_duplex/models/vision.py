"""From the hidden state of the vision tower to embeddings of the language model.

The tower is vLLM's own `InternVisionModel`. What follows it here is VITA 1.0's: half of the hidden state,
2x2 patches merged into one token, a projector of two layers. Nothing is split between tensor-parallel ranks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vita_duplex.models.tiling import MERGE

SCALE = 0.5
"""VITA was trained on half of what the tower gives; without it every picture is twice as loud as the weights expect."""


def merge_patches(hidden: Tensor) -> Tensor:
    """The tower's last hidden state, class token first, as merged tokens: [N, 1 + side*side, C] -> [N, tokens, 4C].

    Errors: `ValueError` when the patches form no square that can be merged.
    """
    patches = hidden[:, 1:] * SCALE
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1] or side % MERGE or not side:
        raise ValueError(f"{patches.shape[1]} patches form no square of {MERGE}x{MERGE} cells")
    return pixel_shuffle(patches.unflatten(1, (side, side))).flatten(1, 2)


def pixel_shuffle(grid: Tensor) -> Tensor:
    """Each 2x2 cell as one, its patches side by side in reading order: [N, H, W, C] -> [N, H/2, W/2, 4C]."""
    cells = grid.unflatten(2, (-1, MERGE)).unflatten(1, (-1, MERGE))  # [N, H/2, 2, W/2, 2, C]
    return cells.transpose(2, 3).flatten(3)


class VisionProjector(nn.Module):  # torch is not followed
    """Merged patches as embeddings of the language model.

    `linear_1` and `linear_2` are `mm_projector.0` and `.2` of the release.
    """

    def __init__(self, vision_width: int, text_width: int, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(MERGE * MERGE * vision_width, text_width, dtype=dtype)
        self.linear_2 = nn.Linear(text_width, text_width, dtype=dtype)

    def forward(self, hidden: Tensor) -> Tensor:
        """The tower's last hidden state, class token included: [tiles, 1 + patches, C] -> [tiles, patches/4, H]."""
        return self.project(merge_patches(hidden))

    def project(self, merged: Tensor) -> Tensor:
        """[..., 4C] -> [..., H]; the GELU is the exact one."""
        return self.linear_2(F.gelu(self.linear_1(merged)))
