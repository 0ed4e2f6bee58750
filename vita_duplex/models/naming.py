"""Where a model is that somebody names: a folder, one inside it, or a hub's model that was downloaded before; and
whether all of it is there. Nothing is loaded and nobody is asked.

Source of the cache's layout: huggingface_hub, "Understand caching"; of the pointers: the git-lfs specification.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vita_duplex.models.layouts import LAYOUTS, is_vita, model_type

HUB_ID = re.compile(r"(?![.-])[\w.-]+(?<![.-])/(?![.-])[\w.-]+(?<![.-])|(?![.-])[A-Za-z][\w.-]+(?<![.-])")
POINTER = b"version https://git-lfs"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
RELEASED_VITA = {"VITA-MLLM/VITA": "VITA_ckpt", "VITA-MLLM/VITA-1.5": ""}
"""Releases by hub id, and the subfolder that has the checkpoint."""


class NoModel(ValueError):
    """There is no whole model where a name leads; the text is one line that says what helps."""


def is_vita_name(model: str) -> bool:
    """Whether a name, a folder or a downloaded model is a VITA; also of releases that are not downloaded yet."""
    try:
        found = locate(model)
        settings = settings_of(found) if isinstance(found, Path) else None
        return is_vita(settings or {}) or model in RELEASED_VITA
    except NoModel:
        return False


def locate(model: str, environment: Mapping[str, str] = os.environ) -> Path | str:
    """The folder of a model, or its hub id where it is not on this machine.

    Errors: `NoModel` for what can be neither.
    """
    if not model.strip():
        raise NoModel("no model is named; name a folder or a Hugging Face model (owner/name)")
    try:
        folder = Path(model).expanduser()
    except RuntimeError:  # a user without a home
        folder = Path(model)
    if folder.is_dir():
        return _checkpoint_in(folder)
    if folder.is_file():
        gguf = "GGUF files are for llama.cpp: serve it there and set engine.kind=openai"
        raise NoModel(f"{model} is a file; {gguf if folder.suffix == '.gguf' else f'name its folder: {folder.parent}'}")
    if not HUB_ID.fullmatch(model):
        raise NoModel(f"there is no folder {model}; name a folder or a Hugging Face model (owner/name)")
    snapshot = _snapshot(model, environment)
    if snapshot is None:
        return model
    inside = snapshot / RELEASED_VITA.get(model, "")
    return _checkpoint_in(inside if inside.is_dir() else snapshot)


def check_whole(folder: Path) -> None:
    """Look for what an interrupted download leaves. Errors: `NoModel`, which names the file and says what helps."""
    if (settings := settings_of(folder)) is None:
        why = "is a git-lfs pointer" if _is_pointer(folder / "config.json") else "cannot be read as JSON"
        raise NoModel(f"{folder}/config.json {why}; {_again(folder)}")
    kind = model_type(settings) or ""
    if kind.lower().startswith("vita") and not is_vita(settings):
        raise NoModel(f"{folder} is a {kind}; of VITA these run here: {', '.join(LAYOUTS.values())}")
    if (folder / "adapter_config.json").exists() and not any(folder.glob("model*.safetensors")):
        raise NoModel(f"{folder} is a LoRA adapter; merge it into its base model first (peft: merge_and_unload)")
    shards = list(_shards(folder))
    for shard in shards:
        if fault := shard_fault(shard):
            raise NoModel(f"{shard} {fault}; {_again(folder)}")
    if not shards and not any(folder.glob("*.bin")) and not any(folder.glob("*.pt")):
        raise NoModel(f"{folder} has no weights (*.safetensors); {_again(folder)}")
    if not any((folder / name).exists() for name in TOKENIZERS) and not is_vita(settings):
        raise NoModel(f"{folder} has no tokenizer ({', '.join(TOKENIZERS[:2])} …); {_again(folder)}")


def shard_fault(shard: Path) -> str | None:
    """What is wrong with a file of weights, as the end of a sentence; its header is read and nothing else."""
    try:
        size = shard.stat().st_size
        with shard.open("rb") as file:
            start = file.read(8)
            if (start + file.read(len(POINTER) - 8)) == POINTER:
                return "is a git-lfs pointer, not the weights"
            file.seek(8)
            header = json.loads(file.read(min(int.from_bytes(start, "little"), size)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + int.from_bytes(start, "little") + max(ends, default=0)
    except FileNotFoundError:
        return "is missing"
    except PermissionError:
        return "may not be read by this user"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return "is damaged"
    return None if size >= whole else f"is cut short: {size:,} of {whole:,} bytes"


def settings_of(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a checkpoint; None if there is none that can be read."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None


def _shards(folder: Path) -> Iterator[Path]:
    """Files of weights: those that the index lists, else those that are there."""
    index = folder / "model.safetensors.index.json"
    if not os.path.lexists(index):
        yield from sorted(folder.glob("*.safetensors"))
        return
    try:
        listed = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise NoModel(f"{index} cannot be read; {_again(folder)}") from exc
    yield from (folder / str(name) for name in sorted(listed))


def _checkpoint_in(folder: Path) -> Path:
    """The folder itself or the one below it that has a `config.json`."""
    if os.path.lexists(folder / "config.json"):
        return folder
    below = sorted(one.parent for one in folder.glob("*/config.json"))
    if len(below) == 1:
        return below[0]
    if below:
        raise NoModel(f"{folder} has several models; name one: {', '.join(str(one) for one in below)}")
    raise NoModel(f"the folder {folder} has no config.json: there is no model in it")


def _snapshot(model: str, environment: Mapping[str, str]) -> Path | None:
    """The newest downloaded state of a hub's model."""
    home = Path(environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    try:
        cache = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    except RuntimeError:  # a user without a home
        return None
    folder = cache / f"models--{model.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / revision
    return snapshot if snapshot.is_dir() and any(snapshot.rglob("config.json")) else None


def _is_pointer(file: Path) -> bool:
    try:
        return file.read_bytes().startswith(POINTER)
    except OSError:
        return False


def _again(folder: Path) -> str:
    """How the rest is had."""
    if (folder / ".git").exists():
        return f"run: git -C {folder} lfs pull"
    return "the download is not whole: run it again (hf download owner/name), or copy the file from where it is"
