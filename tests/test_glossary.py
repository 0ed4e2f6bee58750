"""One word for one thing: the words of docs/architecture.md's glossary, and none of those that were given up."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT
from tests.support.sockets import scripted_server
from vita_duplex.settings import Config

RETIRED = {
    "ear": "vad or asr",
    "ears": "vad or asr",
    "judgement": "verdict",
    "judged": "verdict",
    "judging": "pending",
    "film": "video",
    "films": "video",
    "contribution": "message",
    "wishes": "settings",
    "seams": "ports",
}
"""A word that was given up, and the one in its place."""
KEPT = {
    "vita_duplex/engine/duplex.py": {"judging", "judged"},  # the verb: the core judges utterances
    "vita_duplex/engine/utterances.py": {"judging"},
    "vita_duplex/engine/session.py": {"judging"},
}
GLOSSARY = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Glossary")[1]


def words(name: str) -> set[str]:
    """`{a, judging, seat}` of `AJudging_seat`."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def names(source: str) -> Iterator[str]:
    """Everything that a module gives a name to."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


@pytest.mark.parametrize("path", sorted((ROOT / "vita_duplex").rglob("*.py")), ids=lambda path: path.stem)
def test_no_name_has_a_word_that_was_given_up(path: object) -> None:
    file = str(path).removeprefix(f"{ROOT}/")
    found = {
        name for name in names((ROOT / file).read_text("utf-8")) if words(name) & set(RETIRED) - KEPT.get(file, set())
    }
    assert not found, {name: [RETIRED[word] for word in words(name) & set(RETIRED)] for name in found}


def keys(schema: dict[str, object]) -> Iterator[str]:
    """Every key of the settings, in all sections."""
    definitions = schema.get("$defs", {})
    assert isinstance(definitions, dict)
    for part in (schema, *definitions.values()):
        yield from part.get("properties", {})


async def test_settings_and_metrics_use_the_glossary() -> None:
    metrics = scripted_server().metrics.text().decode()
    told = {*keys(Config.model_json_schema()), *re.findall(r"^# HELP (\S+)", metrics, re.MULTILINE)}
    assert len(told) > 80
    assert not [name for name in told if words(name) & set(RETIRED)]


@pytest.mark.parametrize(
    "word", ["verdict", "VAD", "ASR", "TTS", "endpoint", "hold", "presence", "utterance", "ledger"]
)
def test_the_glossary_explains(word: str) -> None:
    assert re.search(rf"^\| [^|]*\b{word}\b[^|]*\|", GLOSSARY, re.MULTILINE)
