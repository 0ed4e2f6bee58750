"""A sample as token ids, targets and weights. Pure.

Source of the layout: `preprocess_mixtral_two` and `preprocess_qwen2p5` of the original's data modules; what is better
by default is said at `LabelSettings`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from vita_duplex.models.prompts import Wording
from vita_duplex.train.model import AUDIO, IGNORED, IMAGE
from vita_duplex.train.sample import Medium, Sample, SampleError, Turn


class LabelSettings(BaseModel):
    """What is trained on, and how much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_token_weight: float = Field(default=4.0, gt=0, description="weight of a state token; other tokens have 1")
    as_original: bool = Field(
        default=False,
        description="train the answer behind <2> as well, and write no state token into items of text alone",
    )


class Counts(Protocol):
    """How many placeholders a medium takes in the ids."""

    def __call__(self, medium: Medium) -> int: ...


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row; all lists are equally long. Labels are not shifted."""

    ids: list[int]
    labels: list[int]
    weights: list[float]
    states: list[int]
    """Where in `ids` the token stands that tells a state from the others."""


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    trained: bool = False
    state: bool = False


def label(sample: Sample, tokenizer: Any, wording: Wording, counts: Counts, settings: LabelSettings) -> Labelled:
    """Write a sample as the model reads it, each medium as so many placeholders.

    Errors: `SampleError` when nothing of it would be trained.
    """
    row = Labelled([], [], [], [])
    if tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        _add(row, [tokenizer.bos_token_id], IGNORED, 0.0)
    pieces: list[_Text] = []
    for piece in _pieces(sample, wording, settings):
        if isinstance(piece, _Text):
            pieces.append(piece)
            continue
        _add_text(row, pieces, tokenizer, settings)
        pieces = []
        _add(row, [AUDIO if piece.kind == "audio" else IMAGE] * counts(piece), IGNORED, 0.0)
    _add_text(row, pieces, tokenizer, settings)
    if all(one == IGNORED for one in row.labels):
        raise SampleError("no token of it would be trained: its answers are empty or masked")
    return row


def _pieces(sample: Sample, wording: Wording, settings: LabelSettings) -> Iterator[_Text | Medium]:
    """The text of `prompts.conversation`, with every turn answered."""
    system = wording.conversation[sample.modality]
    added = wording.instruction_prefix + sample.system if sample.system else ""
    yield _Text(wording.system_prefix + system + added + wording.turn_end)
    end = wording.turn_end.rstrip()
    text_only = not any(sample.media)
    for number, turn in enumerate(sample.turns):
        yield _Text(wording.user_prefix)
        for part in turn.user:
            yield part if isinstance(part, Medium) else _Text(part)
        yield _Text(wording.turn_end + wording.bot_prefix)
        yield from _answer(turn, wording, settings, text_only)
        last = number == len(sample.turns) - 1
        if not last or sample.end:
            yield _Text(end, trained=_is_trained(turn, settings))
        if not last:
            yield _Text(wording.turn_end.removeprefix(end))


def _answer(turn: Turn, wording: Wording, settings: LabelSettings, text_only: bool) -> Iterator[_Text]:
    if turn.state is not None and not (settings.as_original and text_only):
        yield _Text(wording.states[turn.state], trained=True, state=True)
    yield _Text(turn.answer, trained=_is_trained(turn, settings))


def _is_trained(turn: Turn, settings: LabelSettings) -> bool:
    """What follows `<2>` is never said; the original trains it all the same."""
    return settings.as_original or turn.state != "noise"


def _add_text(row: Labelled, pieces: Sequence[_Text], tokenizer: Any, settings: LabelSettings) -> None:
    """Tokenise neighbouring texts as one, as the server does; a token belongs to the text of its first letter."""
    text = "".join(piece.text for piece in pieces)
    if not text:
        return
    owners = [piece for piece in pieces for _ in piece.text]
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    deciding: dict[int, int] = {}
    for one, (start, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        owner = owners[min(start, len(owners) - 1)]
        if owner.state:
            deciding[id(owner)] = len(row.ids)
        weight = settings.state_token_weight if owner.state else 1.0
        _add(row, [one], one if owner.trained else IGNORED, weight if owner.trained else 0.0)
    row.states.extend(deciding.values())


def _add(row: Labelled, ids: list[int], target: int, weight: float) -> None:
    row.ids.extend(ids)
    row.labels.extend([target] * len(ids))
    row.weights.extend([weight] * len(ids))
