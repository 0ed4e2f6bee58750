"""Public sets of speech into replies, in their published layouts. docs/evaluation.md says where they are.

| set | layout |
|---|---|
| Full-Duplex-Bench v1.5 | `TASK/ID/input.wav`, `metadata.json` with `timestamps`: where in it the overlap lies |
| SID-Bench | `test_wavs/en_test_lines.jsonl`, `zh_…`, `silence_noise_…`; sounds in `en/`, `zh/`, `silence_or_noise/` |
| HumDial-FDBench | `[LANGUAGE/]SCENARIO/NNNN_NNNN.wav`; `clean…` and `…_output` beside them are not played |
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

Wanted = Literal["respond", "resume", "wait"]
"""What is right: to end the reply and answer · to go on with it · to say nothing before the user is done."""

FULL_DUPLEX_BENCH: dict[str, Wanted] = {
    "user_interruption": "respond",
    "user_backchannel": "resume",
    "talking_to_other": "resume",
    "background_speech": "resume",
}
SID_BENCH = {
    "en_test_lines.jsonl": "en",
    "zh_test_lines.jsonl": "zh",
    "silence_noise_test.jsonl": "silence_or_noise",
}
HUMDIAL: dict[str, Wanted] = {
    "follow up question": "respond",
    "negation or dissatisfaction": "respond",
    "repetition request": "respond",
    "topic switch": "respond",
    "topic switching": "respond",
    "silence or stop": "respond",
    "silence or termination": "respond",
    "user real time backchannel": "resume",
    "speech directed to other": "resume",
    "third party speech after": "resume",
    "third party speech before": "wait",
    "pause handling": "wait",
}
"""Folders of the scenarios, as `_plain` has them: case, hyphens and plurals vary between releases."""
USER = re.compile(r"(test-)?\d+(_\d+)*(_add)?\.wav", re.IGNORECASE)


Value = TypeVar("Value")


class EvalError(Exception):
    """The folder cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a user, and what is right."""

    set_name: str
    group: str
    name: str
    audio: Path
    wanted: Wanted
    span: tuple[float, float] | None = None
    """Where in it something is said into the reply, in seconds. None: behind its first stretch of speech."""
    has_question: bool = True
    """It begins with what the reply answers. Else the reply is asked for in writing."""


def read(folder: Path) -> list[Clip]:
    """The clips of a folder, in the order of their names. Errors: `EvalError`."""
    if not folder.is_dir():
        raise EvalError(f"{folder} is not a folder")
    for layout in (_full_duplex_bench, _sid_bench, _humdial):
        if clips := sorted(layout(folder), key=lambda clip: (clip.group, clip.name)):
            return clips
    known = "Full-Duplex-Bench v1.5, SID-Bench and HumDial-FDBench"
    raise EvalError(f"{folder} has none of the layouts that are known: {known}; see docs/evaluation.md")


def _full_duplex_bench(folder: Path) -> Iterator[Clip]:
    for task, wanted in FULL_DUPLEX_BENCH.items():
        for file in (folder / task).glob("*/metadata.json"):
            start, end = _field(_json(file), "timestamps", _span, file)
            yield Clip("Full-Duplex-Bench v1.5", task, file.parent.name, file.with_name("input.wav"), wanted,
                       (start, end))  # fmt: skip


def _sid_bench(folder: Path) -> Iterator[Clip]:
    root = folder / "test_wavs" if (folder / "test_wavs").is_dir() else folder
    for name, group in SID_BENCH.items():
        file = root / name
        if not file.exists():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            where = Path(f"{file}:{number}")
            row = _parsed(line, where)
            audio = _field(row, "audio", str, where)
            duration = _field(row, "duration", float, where)
            none = bool(row.get("total_nonbreak"))
            span = (0.0 if none else _field(row, "break_time", float, where), duration)
            wanted: Wanted = "resume" if none else "respond"
            yield Clip("SID-Bench", group, audio, root / group / audio, wanted, span, has_question=False)


def _humdial(folder: Path) -> Iterator[Clip]:
    for scenario in (one for one in folder.glob("**/") if one.is_dir()):
        wanted = HUMDIAL.get(_plain(scenario.name))
        if wanted is None:
            continue
        language = scenario.parent.name if scenario.parent != folder else ""
        group = f"{scenario.name} ({language})" if language else scenario.name
        for file in scenario.glob("*.wav"):
            if USER.fullmatch(file.name):
                yield Clip("HumDial-FDBench", group, file.stem, file, wanted)


def _plain(name: str) -> str:
    return re.sub(r"s\b", "", re.sub(r"[_-]", " ", name.lower()).replace(" at ", " to "))


def _json(file: Path) -> dict[str, Any]:
    try:
        return _parsed(file.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"cannot read {file}: {error}") from error


def _parsed(text: str, where: Path) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise EvalError(f"{where} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise EvalError(f"{where} is not a JSON object")
    return fields


def _span(value: Any) -> tuple[float, float]:
    start, end = value
    if not 0 <= float(start) <= float(end):
        raise ValueError
    return float(start), float(end)


def _field(row: dict[str, Any], name: str, read: Callable[[Any], Value], where: Path) -> Value:
    try:
        return read(row[name])
    except (KeyError, TypeError, ValueError) as error:
        raise EvalError(f"{where}: {name} is missing or wrong") from error
