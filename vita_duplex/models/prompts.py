"""Prompts of VITA: a dialogue becomes the exact text and token ids that the weights were trained with.

Pure functions. Every string that belongs to a generation of the model (system texts, role names, state
tokens) is in `prompts.json`, as one style; the ids of the placeholders are in the model's configuration.

Source of the rules: the demos and the training code of https://github.com/VITA-MLLM/VITA (October 2024, March 2025).
Where the original errs, the default is right and `compat="demo"` repeats the error.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import takewhile
from typing import Literal, Protocol

Compat = Literal["none", "demo"]
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
    demo_strips_role_letters: bool
    demo_drops_user_headers: bool
    """In live talk, all but the first."""
    demo_marker: str
    """What the original leaves at the start of the answers that it keeps."""
    demo_basic_drops: str
    """The state token whose spoken turns the original's basic demo leaves out."""
    demo_dropped_endings: str


@cache
def wording(style: str = "vita-1.0") -> Wording:
    """Look a style up in the data file.

    Errors: `ValueError` when there is none of that name.
    """
    styles = json.loads(files(__package__).joinpath("prompts.json").read_text(encoding="utf-8"))["styles"]
    if style not in styles:
        raise ValueError(f"no prompt style {style!r}; there are {', '.join(styles)}")
    strings = styles[style]
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
    finished: bool = True
    """False while the answer is being spoken: the original does not know of it yet."""


@dataclass(frozen=True)
class Prompt:
    """Text and media in the model's order. No two texts are neighbours, and none is empty."""

    pieces: tuple[Part, ...]
    wording: Wording

    @cached_property
    def text(self) -> str:
        """The prompt as the original writes it, each medium as its placeholder."""
        return "".join(self._written(piece) for piece in self.pieces)

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

    def _written(self, piece: Part) -> str:
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
    compat: Compat = "none",
    instructions: str = "",
) -> Prompt:
    """Write the prompt of live talk.

    Old audio is kept, old vision is dropped, and what is seen now stands before everything that was said.
    How many exchanges are passed is the caller's choice; the original passes one. It knows no `instructions`:
    they end the system text as one more point of its list.
    """
    seen = [part for part in user if isinstance(part, Image)]
    known = [exchange for exchange in history if compat != "demo" or (exchange.finished and exchange.answer)]
    if known:
        user = _without_images(user)
    turns = _turns(
        [Exchange(_without_images(old.user), old.answer, old.state, old.finished) for old in known],
        user,
        wording,
        compat,
    )
    if known:
        turns[0].parts[:0] = seen
    if known and compat == "demo" and wording.demo_strips_role_letters:
        _strip_role_letters(turns[0].parts, len(seen), wording)
    # A still picture gets the video's text too, as in the original: it comes from the same camera.
    system = _instructed(wording.interactive["video" if seen else "audio"], instructions, wording, compat)
    one_header = compat == "demo" and wording.demo_drops_user_headers
    prompt = _write(system, turns, wording, one_header=one_header)
    return _fix_spaces_everywhere(prompt) if compat == "demo" else prompt


def conversation(
    history: Sequence[Exchange],
    user: Sequence[Part],
    wording: Wording,
    modality: Modality | None = None,
    compat: Compat = "none",
    instructions: str = "",
) -> Prompt:
    """Write the prompt of training and of talk by turns: all media of all turns, where they were.

    The system text follows what was seen last, unless `modality` says otherwise; `instructions` as in `interactive`.
    """
    turns = _turns(history, user, wording, compat)
    chosen = modality or _last_seen(part for turn in turns for part in turn.parts)
    return _write(_instructed(wording.conversation[chosen], instructions, wording, compat), turns, wording)


def with_pictures(images: Sequence[Image], *rest: Part) -> tuple[Part, ...]:
    """A turn of `conversation` with pictures or frames: they come first and end the line."""
    return (*images, "\n", *rest) if images else rest


def addressed(history: Iterable[Exchange], wording: Wording, compat: Compat = "none") -> list[Exchange]:
    """Leave out the sounds that were not meant for the assistant, as the original's basic demo does.

    That of VITA-1.5 asks for the wrong state token.
    """
    dropped = wording.demo_basic_drops if compat == "demo" else wording.states["noise"]

    def is_dropped(exchange: Exchange) -> bool:
        state = wording.states[exchange.state] if exchange.state else ""
        return _has_audio(exchange.user) and (state + exchange.answer).startswith(dropped)

    return [exchange for exchange in history if not is_dropped(exchange)]


def typed(text: str, wording: Wording, compat: Compat = "none") -> str:
    """Typed text as it goes into a turn; the original's basic demo drops its last character if it is a mark."""
    drops = compat == "demo" and text != "" and text[-1] in wording.demo_dropped_endings
    return text[:-1] if drops else text


def parse(text: str, images: Iterable[Image], audios: Iterable[Audio], wording: Wording) -> tuple[Part, ...]:
    """Read text with placeholders, taking media in order.

    Errors: `ValueError` when placeholders and media do not match.
    """
    waiting: dict[str, Iterator[Image | Audio]] = {
        wording.image_placeholder: iter(images),
        wording.audio_placeholder: iter(audios),
    }
    parts: list[Part] = []
    while text:
        found = [(text.find(mark), mark) for mark in waiting if mark in text]
        place, mark = min(found, default=(len(text), ""))
        if place:
            parts.append(text[:place])
        if mark:
            medium = next(waiting[mark], None)
            if medium is None:
                raise ValueError(f"more {mark} in the text than media")
            parts.append(medium)
        text = text[place + len(mark) :]
    for mark, left in waiting.items():
        if next(left, None) is not None:
            raise ValueError(f"more media than {mark} in the text")
    return tuple(parts)


@dataclass(slots=True)
class _Turn:
    """A turn of the user being put together, and its answer; `None` where the model is to go on."""

    parts: list[Part]
    answer: str | None = None


def _turns(history: Iterable[Exchange], user: Sequence[Part], wording: Wording, compat: Compat) -> list[_Turn]:
    """Pair what the user said with the answers; a question without one is asked again with the next."""
    turns, unanswered = [], list[Part]()
    for exchange in history:
        asked = _joined(unanswered, _cleaned(exchange.user, wording, compat))
        if exchange.answer:
            turns.append(_Turn(asked, _answer(exchange, wording, compat)))
        unanswered = [] if exchange.answer else asked
    return [*turns, _Turn(_joined(unanswered, _cleaned(user, wording, compat)))]


def _joined(first: list[Part], second: list[Part]) -> list[Part]:
    texts_meet = bool(first) and bool(second) and isinstance(first[-1], str) and isinstance(second[0], str)
    return [*first, "\n", *second] if texts_meet else [*first, *second]


def _answer(exchange: Exchange, wording: Wording, compat: Compat) -> str:
    """An answer of the past as the model would have to write it."""
    answer = exchange.answer
    if compat != "demo":
        answer = answer.removeprefix(wording.demo_marker).removesuffix(wording.turn_end.rstrip())
    if exchange.state is not None:
        return wording.states[exchange.state] + _plain(answer.lstrip(" "), wording, compat)
    for spaced, bare in wording.space_fixups:
        if answer.startswith(spaced):
            answer = bare + answer.removeprefix(spaced)
    state = next((token for token in wording.states.values() if answer.startswith(token)), "")
    return state + _plain(answer.removeprefix(state), wording, compat)


def _cleaned(parts: Iterable[Part], wording: Wording, compat: Compat) -> list[Part]:
    return [_plain(part, wording, compat) if isinstance(part, str) else part for part in parts]


def _plain(text: str, wording: Wording, compat: Compat) -> str:
    """Put a space for each control token in a text, so that nobody ends a turn or gives a verdict by typing.

    A space, because what stands around a token that is only taken out could close up to another one.
    """
    return text if compat == "demo" else re.sub("|".join(map(re.escape, wording.reserved)), " ", text)


def _without_images(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(part for part in parts if not isinstance(part, Image))


def _has_audio(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, Audio) for part in parts)


def _instructed(system: str, instructions: str, wording: Wording, compat: Compat) -> str:
    said = _plain(instructions, wording, compat).strip()
    return system + wording.instruction_prefix + said if said else system


def _last_seen(parts: Iterable[Part]) -> Modality:
    seen = [part for part in parts if isinstance(part, Image)]
    if not seen:
        return "lang"
    return "video" if seen[-1].frame else "image"


def _write(system: str, turns: Iterable[_Turn], wording: Wording, *, one_header: bool = False) -> Prompt:
    pieces: list[Part] = [wording.system_prefix, system, wording.turn_end]
    for number, turn in enumerate(turns):
        header = "" if one_header and number else wording.user_prefix
        pieces += [header, *turn.parts, wording.turn_end, wording.bot_prefix]
        if turn.answer is not None:
            pieces += [turn.answer, wording.turn_end]
    return Prompt(tuple(_merged(pieces)), wording)


def _merged(pieces: Iterable[Part]) -> Iterator[Part]:
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


def _strip_role_letters(parts: list[Part], place: int, wording: Wording) -> None:
    """The original takes `user:` off its first turn as a set of letters, and the text's own first letters with it."""
    while place < len(parts) and isinstance(text := parts[place], str):
        parts[place] = kept = text.lstrip(wording.user_prefix)
        if kept:
            return
        place += 1


def _fix_spaces_everywhere(prompt: Prompt) -> Prompt:
    """The original does not look where a state token stands: it mends what the user typed, too."""

    def mended(piece: Part) -> Part:
        if isinstance(piece, str):
            for spaced, bare in prompt.wording.space_fixups:
                piece = piece.replace(spaced, bare)
        return piece

    return Prompt(tuple(mended(piece) for piece in prompt.pieces), prompt.wording)


class Tokenizer(Protocol):
    """What is needed of a tokenizer of `transformers`."""

    @property
    def bos_token_id(self) -> int | None: ...

    def encode(self, text: str) -> list[int]:
        """Token ids, BOS included where the tokenizer sets one."""
        ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """A prompt for the engine: one id per medium, to be expanded by the model's processor."""

    ids: list[int]
    images: list[int]
    """Where the placeholders of images stand in `ids`."""
    audios: list[int]
    collisions: list[int]
    """Where ordinary text has the id of a placeholder. The engine would take it for one."""


def tokenise(prompt: Prompt, tokenizer: Tokenizer, *, image_id: int, audio_id: int) -> Tokens:
    """Tokenise text by text, as the original does; a text may get its own prefix space.

    A placeholder takes its id. BOS stands once, at the front, also before a placeholder.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids = tokenizer.encode("")
    if ids != bos:
        ids = []  # the tokenizer has a BOS but does not set it
    images, audios, collisions = [], [], []
    for piece in prompt.pieces:
        if isinstance(piece, str):
            text = tokenizer.encode(piece)
            text = text[len(bos) :] if bos and text[: len(bos)] == bos else text
            collisions += [len(ids) + place for place, one in enumerate(text) if one in (image_id, audio_id)]
            ids = [*ids, *text]
        elif isinstance(piece, Image):
            images.append(len(ids))
            ids.append(image_id)
        else:
            audios.append(len(ids))
            ids.append(audio_id)
    return Tokens(ids, images, audios, collisions)


@dataclass(frozen=True, slots=True)
class StateTokens:
    """The state tokens as ids, where an answer begins."""

    ids: Mapping[State, tuple[int, ...]]

    @property
    def shared(self) -> tuple[int, ...]:
        """Ids with which all three begin; empty if each is one token. The verdict falls on the id behind them."""
        columns = zip(*self.ids.values(), strict=False)
        return tuple(first for first, *_ in takewhile(lambda column: len(set(column)) == 1, columns))

    @property
    def deciding(self) -> dict[State, int]:
        """The id, behind the shared ones, that tells each state from the others."""
        return {state: self.ids[state][len(self.shared)] for state in STATES}


def state_tokens(tokenizer: Tokenizer, wording: Wording) -> StateTokens:
    """Look the state tokens up behind the words that open an answer, where they are generated.

    Errors: `ValueError` when one melts into those words or two cannot be told apart by one id.
    """
    opening = wording.turn_end + wording.bot_prefix
    before = tokenizer.encode(opening)
    found: dict[State, tuple[int, ...]] = {}
    for state in STATES:
        ids = tokenizer.encode(opening + wording.states[state])
        if ids[: len(before)] != before or len(ids) == len(before):
            raise ValueError(f"the tokenizer does not keep the state token {wording.states[state]} to itself")
        found[state] = tuple(ids[len(before) :])
    tokens = StateTokens(found)
    if min(map(len, found.values())) == len(tokens.shared) or len(set(tokens.deciding.values())) < len(STATES):
        raise ValueError(f"the state tokens {', '.join(wording.states.values())} cannot be told apart by one token")
    return tokens
