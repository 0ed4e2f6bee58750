"""`vita-duplex check --node`: whether this machine's GPUs hold what a configuration wants, before 94 GB are loaded.

The decisions are pure: they read what `nvidia-smi` prints and what the checkpoint says of itself.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vita_duplex.config import Config
from vita_duplex.models.naming import settings_of

Finding = tuple[bool, str]
"""Whether it is all right, and what was found."""

QUERY = "index,name,memory.total,memory.free,driver_version"
CUDA_12_DRIVER, CUDA_13_DRIVER = 525, 580
"""NVIDIA's oldest driver branches for programs made with them (CUDA compatibility guide, minor versions)."""
STEP_SHARE, STEP_LEAST = 0.13, 3e9
"""Memory of one step, the encoders and CUDA graphs, by the weights on a GPU: the arithmetic of configs/vita*.yaml."""
SHM_EACH = 2**30
"""Shared memory for each GPU of an engine of several, through which NCCL may go; a container's default is 64 MB."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    name: str
    total: int
    """Bytes."""
    free: int
    """Bytes."""
    driver: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What one GPU has to hold for one engine, in bytes."""

    weights: float
    per_token: float
    share: float
    """Of its memory, that the engine may take."""
    longest: int
    """Tokens of the longest dialogue."""

    @property
    def step(self) -> float:
        return max(STEP_LEAST, STEP_SHARE * self.weights)


def findings(config: Config) -> list[tuple[str, Finding]]:
    """Of this machine. Nothing about GPUs where the configuration wants none."""
    engine = config.engine
    if engine.kind != "vita":
        return [("gpu", (True, "not needed by this configuration"))]
    folder, wide = Path(engine.vita.model), engine.vita.tensor_parallel_size
    found = [("folder", complete(folder)), ("shm", shm(_shm_bytes(), wide))]
    gpus = read_gpus(_nvidia_smi(f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"))
    if not gpus:
        return [*found, ("gpu", (False, "no NVIDIA GPU that the driver shows; `nvidia-smi` says why"))]
    found.append(("driver", driver(gpus[0].driver)))
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    per_token = bytes_per_token(settings_of(folder) or {})
    needs = Needs(weights / wide, per_token / wide, engine.vita.gpu_memory_utilization, engine.vita.max_model_len)
    found += [(f"gpu {gpu.index}", memory(gpu, needs)) for gpu in gpus[: engine.gpus]]
    if len(gpus) < engine.gpus:
        found.append(("gpus", (False, f"{engine.gpus} are wanted ({engine.instances} x {wide}), {len(gpus)} are here")))
    if wide > 1:
        found.append(("links", links(_nvidia_smi("topo", "-m"), wide, engine.instances)))
    return found


def read_gpus(table: str) -> list[Gpu]:
    """Of `nvidia-smi --query-gpu`, as CSV without units: memory in MiB."""
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines() if line.count(",") == 4]
    return [Gpu(int(row[0]), row[1], int(row[2]) * MIB, int(row[3]) * MIB, row[4]) for row in rows]


def driver(version: str) -> Finding:
    branch = version.partition(".")[0]
    if branch.isdigit() and int(branch) < CUDA_12_DRIVER:
        return False, f"{version}; CUDA 12 wants {CUDA_12_DRIVER} or newer"
    if branch.isdigit() and int(branch) < CUDA_13_DRIVER:
        return True, f"{version}, for images with CUDA 12; CUDA 13 wants {CUDA_13_DRIVER}"
    return True, version


def bytes_per_token(settings: Mapping[str, Any]) -> float:
    """Keys and values of one token in 16 bits: layers x key heads x size of a head x 2 x 2. 0 where it is not said."""
    text = settings.get("text_config") or settings
    try:
        size = text.get("head_dim") or text["hidden_size"] / text["num_attention_heads"]
        return float(text["num_hidden_layers"] * text["num_key_value_heads"] * size * 4)
    except (KeyError, TypeError):
        return 0.0


def memory(gpu: Gpu, needs: Needs) -> Finding:
    """Whether the weights, a step and one whole dialogue fit into an engine's share of a GPU, and that is free."""
    allowed = needs.share * gpu.total
    left = allowed - needs.weights - needs.step
    dialogue = needs.per_token * needs.longest
    parts = f"{_gb(needs.weights)} of weights, {_gb(needs.step)} for a step"
    sums = f"{needs.share} of {_gb(gpu.total)} is {_gb(allowed)}: {parts}"
    if left < max(dialogue, 1):
        return False, f"{gpu.name}: {sums}, and no room for a dialogue of {needs.longest} tokens ({_gb(dialogue)})"
    if gpu.free < allowed:
        return False, f"{gpu.name}: {_gb(gpu.free)} free, {_gb(allowed)} wanted: another process uses the rest"
    room = f", {left / dialogue:.0f} dialogues of {needs.longest} tokens" if dialogue else ""
    return True, f"{gpu.name}: {sums}{room}"


def links(matrix: str, wide: int, instances: int) -> Finding:
    """How the GPUs of each engine are joined, by `nvidia-smi topo -m`. NV# is NVLink."""
    rows = {
        words[0]: words[1:] for line in matrix.splitlines() if (words := line.split()) and words[0].startswith("GPU")
    }
    table = {name: row for name, row in rows.items() if "X" in row}
    found = set()
    for first in range(0, wide * instances, wide):
        for one in range(first, first + wide):
            row = table.get(f"GPU{one}", [])
            found |= {row[other] for other in range(first, min(first + wide, len(row))) if other != one}
    if not found:
        return True, "not known: nvidia-smi does not say"
    if all(link.startswith("NV") for link in found):
        return True, "NVLink"
    return True, f"{', '.join(sorted(found))}, not all NVLink: slower; engines of one GPU each may be faster"


def shm(size: int, wide: int) -> Finding:
    wanted = SHM_EACH * wide if wide > 1 else 0
    if size < wanted:
        return (
            False,
            f"/dev/shm has {_gb(size)}, {_gb(wanted)} are wanted for {wide} GPUs: --shm-size, or shm_size in compose",
        )
    return True, f"/dev/shm has {_gb(size)}"


def complete(folder: Path) -> Finding:
    """Whether every file is there that the checkpoint's index names, whole, and a tokenizer."""
    if not folder.is_dir():
        return False, f"there is no folder {folder}"
    wanted = ["config.json", *_shards(folder)]
    missing = [name for name in wanted if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if missing:
        return (
            False,
            f"{folder} lacks {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}; the download is not whole",
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return False, f"{folder} has no tokenizer"
    return True, f"{folder}, {len(wanted) - 1} files of weights"


def _shards(folder: Path) -> Sequence[str]:
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError):
        return sorted(file.name for file in folder.glob("*.safetensors")) or ["*.safetensors"]


def _nvidia_smi(*arguments: str) -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60).stdout


def _shm_bytes() -> int:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return found.f_frsize * found.f_blocks


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
