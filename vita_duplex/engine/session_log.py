"""The log of a session: what its core was told, what it decided, and the turns' records. No words and no audio.

JSON lines. The first is a header, each further one has one of four forms:

    {"now": 12.5, "event": {"SpeechEnded": {"utterance": 3}}, "commands": [{"Begin": {"slot": 1, …}}]}
    {"at": 0.01, "roles": {"generator": "a", "monitor": "b", "swaps": 0}}
    {"record": {"turn": 1, …}}
    {"at": 12.9, "label": {"utterances": [3], "meant": true, "p1": 0.31, "reply": "speaking"}}

Events, commands, `Roles` and `TurnRecord` have the names and fields of their classes; a tick's event is null.

`now` is what the core was given, `at` and the records' moments are seconds since the session `began`. Of an utterance
that was not meant for us there are the moments, the probabilities, and that it was rejected.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from vita_duplex.engine.duplex import Duplex
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import Command, Event
from vita_duplex.engine.notices import Corrected, Roles
from vita_duplex.engine.turn_record import TurnRecord

FORMAT = 2
"""Of the lines. A log of another format is refused."""

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


class LogError(Exception):
    """The file is no log that can be read; the text says why, in one line."""


class Header(BaseModel):
    """The first line."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    version: str
    """Of the server that wrote it."""
    began: float
    """The clock of `now` when the session began."""
    voice_rate: int
    """Samples per second of the records' sample counts."""
    duplex: DuplexConfig


@dataclass(frozen=True, slots=True)
class Step:
    """One event that was given to the core."""

    line: int
    text: str
    """The line as it stands in the file."""
    now: float
    event: Event | None
    """None: a deadline had passed."""


@dataclass(slots=True)
class SessionLog:
    """A log as it was read."""

    header: Header
    steps: list[Step] = field(default_factory=list)
    roles: list[tuple[float, Roles]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    labels: list[Corrected] = field(default_factory=list)
    cut: bool = False
    """Its last line was not written to the end; it is left out."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay first decided otherwise."""

    line: int
    logged: str
    replayed: str


# ── writing ────────────────────────────────────────────────────────────────────────────


def header_line(header: Header) -> str:
    return _line(header.model_dump(mode="json"))


def step_line(now: float, event: Event | None, commands: Sequence[Command]) -> str:
    return _line({"now": now, "event": event and _named(event), "commands": [_named(command) for command in commands]})


def roles_line(at: float, roles: Roles) -> str:
    return _line({"at": at, "roles": asdict(roles)})


def label_line(at: float, label: Corrected) -> str:
    """What the user said of a verdict, for `calibrate`."""
    return _line({"at": at, "label": asdict(label)})


def record_line(record: TurnRecord) -> str:
    return _line({"record": asdict(record)})


def _named(one: Event | Command) -> dict[str, Any]:
    return {type(one).__name__: asdict(one)}


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


# ── reading ────────────────────────────────────────────────────────────────────────────


def read(path: Path) -> SessionLog:
    """Errors: `LogError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(f"cannot read {path}: {error}") from error
    *lines, rest = text.split("\n")
    if not lines:
        raise LogError(f"{path} is no session log: it has not one whole line")
    log = SessionLog(_header(path, lines[0]), cut=bool(rest))
    for number, line in enumerate(lines[1:], start=2):
        try:
            _take(log, number, line)
        except (ValueError, KeyError, TypeError) as error:
            raise LogError(f"{path}, line {number} is no line of a session log") from error
    return log


def _header(path: Path, line: str) -> Header:
    try:
        content = json.loads(line)
        if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
            raise LogError(f"{path} has format {content['format']}, this version reads format {FORMAT}")
        return Header.model_validate(content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise LogError(f"{path} is no session log of this version: {where or 'its first line'}") from error
    except ValueError as error:
        raise LogError(f"{path} is no session log: its first line is no header") from error


def _take(log: SessionLog, number: int, line: str) -> None:
    match json.loads(line):
        case {"now": float() | int() as now, "event": None, "commands": list()}:
            log.steps.append(Step(number, line, now, None))
        case {"now": float() | int() as now, "event": dict(event), "commands": list()}:
            [(kind, fields)] = event.items()
            log.steps.append(Step(number, line, now, _KINDS[kind](**fields)))
        case {"at": float() | int() as at, "roles": dict(roles)}:
            log.roles.append((at, Roles(**roles)))
        case {"at": float() | int(), "label": dict(label)}:
            log.labels.append(Corrected(**label))
        case {"record": dict(record)}:
            log.records.append(record)
        case _:
            raise ValueError


# ── replaying ──────────────────────────────────────────────────────────────────────────


def replay(log: SessionLog) -> Difference | None:
    """Feed the events to a fresh core at the recorded times; where its commands first differ, byte for byte."""
    for step, commands in decide(log.header.duplex, log.steps):
        replayed = step_line(step.now, step.event, commands)
        if replayed != step.text:
            return Difference(step.line, step.text, replayed)
    return None


def decide(config: DuplexConfig, steps: Iterable[Step]) -> Iterator[tuple[Step, list[Command]]]:
    """Each step with what a fresh core makes of it."""
    duplex = Duplex(config)
    for step in steps:
        yield step, duplex.tick(step.now) if step.event is None else duplex.receive(step.event, step.now)
