"""One item of training data: turns with their media, before anything is loaded. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vita_duplex.models.prompts import Modality, State

MediumKind = Literal["image", "audio", "video"]


class SampleError(ValueError):
    """An item that cannot be trained on; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A file that a turn shows or plays."""

    kind: MediumKind
    path: Path


Part = str | Medium


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user sent, and the answer."""

    user: tuple[Part, ...]
    answer: str
    state: State | None
    """The state token before the answer; None writes none (text-only items of the original)."""

    @property
    def media(self) -> list[Medium]:
        return [part for part in self.user if isinstance(part, Medium)]


@dataclass(frozen=True, slots=True)
class Sample:
    turns: tuple[Turn, ...]
    name: str
    """The file and the item's number in it: what an error names."""
    end: bool = True
    """Whether the last answer ends with the end token (the original's `end_tag`)."""
    tiled: bool = True
    """Whether pictures are tiled (the original's `NoPatchSets` are not where there are several)."""
    system: str = ""
    """Instructions behind the system text."""
    situation: str = ""
    """What a state token is told apart by in reports: `speaking`, `after`, `idle`, or any other word."""
    extra: dict[str, object] = field(default_factory=dict)
    """Fields of the data that training does not read; conversions keep them."""

    @property
    def media(self) -> Iterator[Medium]:
        for turn in self.turns:
            yield from turn.media

    @property
    def modality(self) -> Modality:
        """Of the system text: what was shown last."""
        shown = [medium.kind for medium in self.media if medium.kind != "audio"]
        return "lang" if not shown else "video" if shown[-1] == "video" else "image"


def state_of(user: tuple[Part, ...], *, noise: bool) -> State:
    """The original's rule: `<2>` where the data says noise, else `<1>` after speech and `<3>` after text."""
    if noise:
        return "noise"
    return "query" if any(isinstance(part, Medium) and part.kind == "audio" for part in user) else "typed"
