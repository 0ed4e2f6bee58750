"""Tensors of a VITA checkpoint under their released names, to and from the model for training.

`transformers` keeps the experts of a Mixtral layer in one tensor; the release has three for each expert.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from vita_duplex.models.checkpoint import PREFIXES

EXPERT = re.compile(r"(model\.layers\.\d+\.)block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight")
RELEASED = {ours: theirs for theirs, ours in PREFIXES.items() if ours is not None}
"""From the first part of a parameter's name to the release's; the most specific one comes first."""
TEXT = "language_model."


def to_model(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The state of a `VitaForTraining` from a checkpoint's tensors; what fills no parameter is left out."""
    state: dict[str, Tensor] = {}
    experts: dict[str, dict[tuple[int, str], Tensor]] = {}
    for name, tensor in tensors:
        if found := EXPERT.fullmatch(name):
            experts.setdefault(found[1], {})[int(found[2]), found[3]] = tensor
        elif (ours := model_name(name)) is not None:
            state[ours] = tensor
    for layer, parts in experts.items():
        numbers = range(len(parts) // 3)
        here = f"{TEXT}{layer}mlp.experts."
        state[f"{here}gate_up_proj"] = torch.stack([torch.cat([parts[n, "w1"], parts[n, "w3"]]) for n in numbers])
        state[f"{here}down_proj"] = torch.stack([parts[n, "w2"] for n in numbers])
    return state


def model_name(name: str) -> str | None:
    """The parameter that a tensor of the release fills; None for one that fills none."""
    theirs, ours = next((theirs, ours) for theirs, ours in PREFIXES.items() if name.startswith(theirs))
    if ours is None or "rotary_emb." in name:
        return None
    return (ours + name.removeprefix(theirs)).replace(".block_sparse_moe.gate.", ".mlp.gate.")


def to_release(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The released names, and experts one by one."""
    for name, tensor in state.items():
        theirs = released_name(name)
        if theirs.endswith("mlp.experts.gate_up_proj"):
            yield from _experts(theirs, [half for one in tensor for half in one.chunk(2)], ("w1", "w3"))
        elif theirs.endswith("mlp.experts.down_proj"):
            yield from _experts(theirs, list(tensor), ("w2",))
        else:
            yield theirs.replace(".mlp.gate.", ".block_sparse_moe.gate."), tensor


def released_name(name: str) -> str:
    ours, theirs = max(
        ((one, other) for one, other in RELEASED.items() if name.startswith(one)), key=lambda p: len(p[0])
    )
    return theirs + name.removeprefix(ours)


def _experts(name: str, parts: list[Tensor], kinds: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    here = name.split("mlp.experts")[0] + "block_sparse_moe.experts."
    for index, part in enumerate(parts):
        yield f"{here}{index // len(kinds)}.{kinds[index % len(kinds)]}.weight", part.clone()
