"""Prompts of VITA: a dialogue becomes the exact text and token ids that the weights were trained with.

Pure functions. Every string that belongs to a generation of the model (system texts, role names, state
tokens) is in `prompts.json`, as one style; the ids of the placeholders are in the model's configuration.

Source of the rules: the demos and the training code of https://github.com/VITA-MLLM/VITA (October 2024, March 2025).
Where the original errs, the prompt is right.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

State = Literal["query", "noise", "typed"]
"""What a turn of the user was: speech meant for the assistant, other sound, or text."""
Modality = Literal["image", "video", "lang"]

STATES: tuple[State, ...] = ("query", "noise", "typed")


@dataclass(frozen=True, slots=True)
class Wording:
    """The strings of one generation of the model."""

    name: str
    system_prefix: str
    user_prefix: str
    bot_prefix: str
    turn_end: str
    instruction_prefix: str
    """Between the system text and what a deployment adds to it."""
    image_placeholder: str
    audio_placeholder: str
    interactive: Mapping[str, str]
    """System texts of live talk: `video`, `image` (never chosen by the original), `audio`."""
    conversation: Mapping[str, str]
    """System texts of training and of the demos that are not live: `image`, `video`, `lang`."""
    states: Mapping[State, str]
    mirrors_camera: bool
    """Whether live frames are shown with left and right swapped, as their user sees them on the page."""
    space_fixups: tuple[tuple[str, str], ...]
    """How answers read back from a detokenised stream lose the space behind their state token."""
    reserved: tuple[str, ...]
    """Strings that the tokenizer turns into control tokens, or the processor into media; nobody may type them."""
    answer_marker: str
    """What the original leaves at the start of the answers that it keeps."""


STYLES: Mapping[str, Any] = json.loads(files(__package__).joinpath("prompts.json").read_text(encoding="utf-8"))[
    "styles"
]
"""What the data file holds, by the names of the generations."""


def template_file(style: str) -> Path:
    """The chat template of a style, for a plain vLLM server; tools/make_chat_templates.py writes it."""
    return Path(__file__).with_name(f"chat_template_{style}.jinja")


@cache
def wording(style: str = "vita-1.0") -> Wording:
    """Look a style up in the data file.

    Errors: `ValueError` when there is none of that name.
    """
    if style not in STYLES:
        raise ValueError(f"no prompt style {style!r}; there are {', '.join(STYLES)}")
    strings = dict(STYLES[style])
    fixups = tuple((spaced, bare) for spaced, bare in strings.pop("space_fixups"))
    return Wording(name=style, space_fixups=fixups, reserved=tuple(strings.pop("reserved")), **strings)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, or one frame of a video. `item` is the caller's own handle, only handed back in order."""

    item: object
    frame: bool = False


@dataclass(frozen=True, slots=True)
class Audio:
    """One stretch of sound; `item` as for `Image`."""

    item: object


Part = str | Image | Audio


@dataclass(frozen=True, slots=True)
class Exchange:
    """A turn of the user in the past and what the assistant answered."""

    user: tuple[Part, ...]
    answer: str = ""
    """As far as it was heard. Empty if nothing was: the user's turn then runs into the next one."""
    state: State | None = None
    """The verdict on the user's turn; `None` if the answer is as generated and brings its state token."""


@dataclass(frozen=True)
class Prompt:
    """Text and media in the model's order. No two texts are neighbours, and none is empty."""

    pieces: tuple[Part, ...]
    wording: Wording

    @cached_property
    def text(self) -> str:
        """The prompt as the original writes it, each medium as its placeholder."""
        return "".join(self._write_part(piece) for piece in self.pieces)

    @property
    def images(self) -> list[object]:
        return [piece.item for piece in self.pieces if isinstance(piece, Image)]

    @property
    def audios(self) -> list[object]:
        return [piece.item for piece in self.pieces if isinstance(piece, Audio)]

    def before_audio(self, number: int) -> "Prompt":
        """What stands before an audio: 0 is the first, -1 the last.

        Its tokens are the first ones of the whole prompt, because texts are tokenised one by one.

        Errors: `IndexError` when there is no such audio.
        """
        places = [place for place, piece in enumerate(self.pieces) if isinstance(piece, Audio)]
        return Prompt(self.pieces[: places[number]], self.wording)

    def _write_part(self, piece: Part) -> str:
        match piece:
            case Image():
                return self.wording.image_placeholder
            case Audio():
                return self.wording.audio_placeholder
            case _:
                return piece


def interactive(
    history: Sequence[Exchange],
    user: Sequence[Part],
    wording: Wording,
    instructions: str = "",
) -> Prompt:
    """Write the prompt of live talk.

    Old audio is kept, old vision is dropped, and what is seen now stands before everything that was said.
    How many exchanges are passed is the caller's choice; the original passes one. It knows no `instructions`:
    they end the system text as one more point of its list.
    """
    seen = [part for part in user if isinstance(part, Image)]
    if history:
        user = _without_images(user)
    heard = [Exchange(_without_images(old.user), old.answer, old.state) for old in history]
    turns = _turns(heard, user, wording)
    if history:
        turns[0].parts[:0] = seen
    # A still picture gets the video's text too, as in the original: it comes from the same camera.
    system = wording.interactive["video" if seen else "audio"]
    return _write(_add_instructions(system, instructions, wording), turns, wording)


def conversation(
    history: Sequence[Exchange],
    user: Sequence[Part],
    wording: Wording,
    modality: Modality | None = None,
    instructions: str = "",
) -> Prompt:
    """Write the prompt of training and of talk by turns: all media of all turns, where they were.

    The system text follows what was seen last, unless `modality` says otherwise; `instructions` as in `interactive`.
    """
    turns = _turns(history, user, wording)
    chosen = modality or _modality_of(part for turn in turns for part in turn.parts)
    return _write(_add_instructions(wording.conversation[chosen], instructions, wording), turns, wording)


def with_images(images: Sequence[Image], *rest: Part) -> tuple[Part, ...]:
    """A turn of `conversation` with images or frames: they come first and end the line."""
    return (*images, "\n", *rest) if images else rest


@dataclass(slots=True)
class _Turn:
    """A turn of the user being put together, and its answer; `None` where the model is to go on."""

    parts: list[Part]
    answer: str | None = None


def _turns(history: Iterable[Exchange], user: Sequence[Part], wording: Wording) -> list[_Turn]:
    """Pair what the user said with the answers; a question without one is asked again with the next."""
    turns, unanswered = [], list[Part]()
    for exchange in history:
        asked = _join(unanswered, _clean(exchange.user, wording))
        if exchange.answer:
            turns.append(_Turn(asked, _answer(exchange, wording)))
        unanswered = [] if exchange.answer else asked
    return [*turns, _Turn(_join(unanswered, _clean(user, wording)))]


def _join(first: list[Part], second: list[Part]) -> list[Part]:
    texts_meet = bool(first) and bool(second) and isinstance(first[-1], str) and isinstance(second[0], str)
    return [*first, "\n", *second] if texts_meet else [*first, *second]


def _answer(exchange: Exchange, wording: Wording) -> str:
    """An answer of the past as the model would have to write it."""
    answer = exchange.answer.removeprefix(wording.answer_marker).removesuffix(wording.turn_end.rstrip())
    if exchange.state is not None:
        return wording.states[exchange.state] + _plain(answer.lstrip(" "), wording)
    for spaced, bare in wording.space_fixups:
        if answer.startswith(spaced):
            answer = bare + answer.removeprefix(spaced)
    state = next((token for token in wording.states.values() if answer.startswith(token)), "")
    return state + _plain(answer.removeprefix(state), wording)


def _clean(parts: Iterable[Part], wording: Wording) -> list[Part]:
    return [_plain(part, wording) if isinstance(part, str) else part for part in parts]


def _plain(text: str, wording: Wording) -> str:
    """Put a space for each control token in a text, so that nobody ends a turn or gives a verdict by typing.

    A space, because what stands around a token that is only taken out could close up to another one.
    """
    return re.sub("|".join(map(re.escape, wording.reserved)), " ", text)


def _without_images(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(part for part in parts if not isinstance(part, Image))


def _add_instructions(system: str, instructions: str, wording: Wording) -> str:
    said = _plain(instructions, wording).strip()
    return system + wording.instruction_prefix + said if said else system


def _modality_of(parts: Iterable[Part]) -> Modality:
    seen = [part for part in parts if isinstance(part, Image)]
    if not seen:
        return "lang"
    return "video" if seen[-1].frame else "image"


def _write(system: str, turns: Iterable[_Turn], wording: Wording) -> Prompt:
    pieces: list[Part] = [wording.system_prefix, system, wording.turn_end]
    for turn in turns:
        pieces += [wording.user_prefix, *turn.parts, wording.turn_end, wording.bot_prefix]
        if turn.answer is not None:
            pieces += [turn.answer, wording.turn_end]
    return Prompt(tuple(_merge(pieces)), wording)


def _merge(pieces: Iterable[Part]) -> Iterator[Part]:
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
            continue
        if text:
            yield text
        text = ""
        yield piece
    if text:
        yield text
