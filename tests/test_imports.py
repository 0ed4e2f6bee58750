"""The import arrows between the parts, in every module and every function; and what importing the core costs."""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "vita_duplex"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
ALLOWED = {
    "engine": set(),
    "engine.instances": {"engine", "models"},
    "engine.cascade": {"engine", "engine.instances"},
    "vad": {"engine"},
    "asr": {"engine", "vad"},
    "tts": {"engine", "tts.text", "tts.voices"},
    "tts.text": {"engine"},
    "tts.voices": {"engine", "tts.text"},
    "models": set(),
    "client": {"engine"},
    "roc": set(),
    "train": {"models", "client", "engine", "roc"},
    "config": {"engine", "engine.instances", "vad", "asr", "tts", "tts.voices"},  # each part's own section
    "server.errors": set(),
    "server.access": {"server.errors", "engine", "config", "settings"},
    "server.observe": {"engine", "config"},
    "server.audio": {"engine"},
    "settings": {"config"},
    "server": {
        "server.errors",
        "server.access",
        "server.observe",
        "engine",
        "engine.instances",
        "engine.cascade",
        "vad",
        "asr",
        "tts",
        "tts.text",
        "tts.voices",
        "models",
        "config",
        "settings",
    },
    "server.realtime": {
        "server",
        "server.errors",
        "server.access",
        "server.observe",
        "server.audio",
        "engine",
        "vad",
    },
    "server.verdict": {"server", "server.errors", "server.realtime", "engine"},
    "server.telephony": {
        "server",
        "server.errors",
        "server.access",
        "server.audio",
        "server.realtime",
        "engine",
        "config",
    },
    "server.webrtc": {
        "server",
        "server.errors",
        "server.access",
        "server.audio",
        "server.realtime",
        "engine",
        "config",
    },
    "server.http": {
        "server.webrtc",
        "server.verdict",
        "server",
        "server.telephony",
        "server.errors",
        "server.access",
        "server.observe",
        "server.audio",
        "server.realtime",
        "engine",
        "models",
        "tts.text",
        "tts.voices",
        "vad",
    },
    "cli": {
        "train",
        "roc",
        "server",
        "server.access",
        "server.audio",
        "server.http",
        "server.observe",
        "server.realtime",
        "client",
        "engine",
        "engine.instances",
        "engine.cascade",
        "vad",
        "models",
        "config",
        "settings",
    },
    "__main__": {"cli"},
    "__init__": set(),
}
"""Which rooms a room may import from, besides itself. `server` itself holds what the rooms inside it share."""


def room(name: str) -> str:
    """`engine.instances` of engine.instances.vita; `engine` of engine.duplex; `server.http` of server.http.app."""
    return max((one for one in ALLOWED if f"{name}.".startswith(f"{one}.")), key=len, default=name)


def name_of(path: Path) -> str:
    """`engine.duplex` of vita_duplex/engine/duplex.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(source: str, package: str) -> Iterator[str]:
    """Full names of everything imported anywhere in a module of `package`, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)
            case ast.Call(func=ast.Name(id="__import__") | ast.Attribute(attr="import_module")):
                first = node.args[0] if node.args else None
                yield str(first.value) if isinstance(first, ast.Constant) else "unknown"


def ours(path: Path) -> list[str]:
    """What a module imports of our package, without the package's name."""
    package = ".".join(["vita_duplex", *path.relative_to(PACKAGE).parts[:-1]])
    names = [name.split(".") for name in imported(path.read_text(encoding="utf-8"), package)]
    return [".".join(name[1:]) for name in names if name[0] == "vita_duplex" and len(name) > 1]


def forbidden(module: str, names: list[str]) -> list[str]:
    """Those of the names that module must not import."""
    here = room(module)
    return [name for name in names if room(name) not in {here, *ALLOWED[here], "__version__"}]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    assert forbidden(name_of(path), ours(path)) == []


def module(name: str, modules: Collection[str]) -> str | None:
    """`engine.duplex` of engine.duplex and of engine.duplex.Duplex."""
    return next((one for one in (name, name.rpartition(".")[0]) if one in modules), None)


def circle(arrows: Mapping[str, Collection[str]]) -> list[str]:
    """Modules that import each other in a circle, also by imports inside functions; [] if there are none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {name_of(path) for path in MODULES}
    arrows = {
        name_of(path): {found for name in ours(path) if (found := module(name, modules))} - {name_of(path)}
        for path in MODULES
    }
    assert circle(arrows) == []


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert sorted(set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}))) == ["a", "b", "c"]


def test_all_modules_are_looked_at() -> None:
    assert {
        "engine.duplex",
        "server.realtime.gateway",
        "vad.endpoint",
        "tts.pacer",
        "models",
        "config",
        "__init__",
    } <= {name_of(path) for path in MODULES}
    assert len(MODULES) > 30


def test_the_watchman_sees_every_kind_of_import() -> None:
    source = """
import json, vita_duplex.tts
from vita_duplex import config
from . import duplex
from ..server import app
def later():
    from vita_duplex.vad.endpoint import Endpoint
    import importlib
    importlib.import_module("vita_duplex.models")
"""
    assert list(imported(source, "vita_duplex.engine")) == [
        "json",
        "vita_duplex.tts",
        "vita_duplex.config",
        "vita_duplex.engine.duplex",
        "vita_duplex.server.app",
        "vita_duplex.vad.endpoint.Endpoint",
        "importlib",
        "vita_duplex.models",
    ]
    assert forbidden("engine.duplex", ["tts", "config", "engine.events", "engine.instances.vita"]) == [
        "tts",
        "config",
        "engine.instances.vita",
    ]


def loaded_by(module: str, suspects: set[str]) -> set[str]:
    """Which of the suspects a fresh interpreter has loaded after importing the module."""
    script = f"import sys, {module}; print(*(set(sys.modules) & {suspects!r}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


HEAVY = {
    "torch",
    "vllm",
    "fastapi",
    "starlette",
    "uvicorn",
    "onnxruntime",
    "transformers",
    "scipy",
    "hibari",
    "websockets",
    "wetext",
    "httpx",
    "soxr",
}


def test_the_core_loads_nothing_heavy() -> None:
    assert loaded_by("vita_duplex.engine.duplex", {*HEAVY, "numpy", "asyncio"}) == set()


def test_the_session_and_the_settings_load_no_model_and_no_server() -> None:
    assert loaded_by("vita_duplex.engine.session", HEAVY) == set()
    assert loaded_by("vita_duplex.config", HEAVY) == set()
    assert loaded_by("vita_duplex.engine.instances.vita_dialogue", HEAVY) == set()


def test_the_server_loads_webrtc_with_the_first_call_only() -> None:
    assert loaded_by("vita_duplex.server.http.app", {"aiortc", "av", "vita_duplex.server.webrtc.peer"}) == set()


def test_the_package_itself_loads_nothing_of_ours() -> None:
    parts = {f"vita_duplex.{part}" for part in ALLOWED}
    assert loaded_by("vita_duplex", parts) == set()
