"""From a session's dialogue to VITA's prompt. Pure: no vLLM and no torch.

The handles in a prompt are what the query holds: a `Pixels` for each picture, an `Utterance` for each sound.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import numpy as np

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.messages import (
    AssistantMessage,
    CallMessage,
    Message,
    Pixels,
    Query,
    UserMessage,
    Utterance,
    Verdict,
)
from vita_duplex.engine.truncation import QUESTION, DialogueTooLong, left_out
from vita_duplex.models.prompts import (
    STATES,
    Audio,
    Exchange,
    Image,
    Part,
    Prompt,
    State,
    Wording,
    conversation,
    interactive,
    with_images,
)

Layout = Literal["interactive", "conversation"]
"""`interactive`: live talk in front of a camera · `conversation`: questions about a photograph or a film, as in
training."""

Count = Callable[[Prompt], int]
"""How many tokens a prompt has for the model, media expanded."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a checkpoint wants to be spoken to."""

    wording: Wording
    layout: Layout = "interactive"


class Written(NamedTuple):
    prompt: Prompt
    left_out: int
    """Messages of the history that are not in it, the oldest."""


def write(query: Query, manner: Manner, room: int, count: Count) -> Written:
    """The prompt that asks for an answer, with as much of the dialogue as fits into `room` tokens.

    Exchanges go whole, the oldest first, many at a time. (Old vision is never there.) A query that does not fit without
    any is written all the same: its caller has to look. Errors: `DialogueTooLong` where none may go.
    """
    exchanges = _exchanges(query.history)
    now = _asked(query, manner)

    def after(first: int) -> Prompt:
        return _write(query, exchanges[first:], now, manner)

    whole = after(0)
    if not exchanges or count(whole) <= room:
        return Written(whole, 0)
    if query.retained is None:
        raise DialogueTooLong(f"the dialogue has {count(whole)} tokens; there is room for {room}")
    bare = replace(query, history=(), frames=())
    nothing = count(_write(replace(bare, instructions=""), [], (), manner))
    sizes = [count(_write(replace(bare, instructions=""), [old], (), manner)) - nothing for old in exchanges]
    instructions = count(_write(bare, [], (), manner))
    first = left_out(sizes, int(room * (1 - QUESTION)) - instructions, query.retained)
    # The question may be longer than what is kept for it.
    first += bisect_left(range(len(exchanges) - first), True, key=lambda more: count(after(first + more)) <= room)
    return Written(after(first), _messages(query.history, first))


def write_ahead(query: Query, manner: Manner, room: int, count: Count) -> Written:
    """What `write` will begin with once the next utterance of the query is spoken: everything before that sound.

    `room` should leave some for that utterance, or it may push out an exchange that was computed ahead.
    """
    coming = Utterance(-1, np.zeros(0, np.float32))
    following = replace(query, utterances=(*query.utterances, coming))
    written = write(following, manner, room, count)
    return Written(written.prompt.before_audio(-1), written.left_out)


def is_spoken(query: Query) -> bool:
    """Whether the query has to be judged: what was typed is meant for us."""
    return bool(query.utterances) and all(utterance.text is None for utterance in query.utterances)


def opening(query: Query, prompt: Prompt) -> State | None:
    """The state token that an answer to an accepted query begins with.

    A turn with audio has the query's; a typed turn its own, but only if there is a medium in the prompt: in the
    training data an all-text sample has no state tokens.
    """
    if any(utterance.text is None for utterance in query.utterances):
        return "query"
    return "typed" if prompt.images or prompt.audios else None


def seen(prompt: Prompt) -> list[Pixels]:
    """The pictures of a prompt from here, in order."""
    return cast(list[Pixels], prompt.images)


def heard(prompt: Prompt) -> list[Samples]:
    """The sounds of a prompt from here, in order."""
    return [utterance.samples for utterance in cast(list[Utterance], prompt.audios) if utterance.samples is not None]


def as_shown(frame: Pixels, manner: Manner) -> Pixels:
    """The frame as the model is to see it: live ones left and right swapped where the original's live demo does so."""
    swapped = manner.layout == "interactive" and manner.wording.mirrors_camera
    return np.ascontiguousarray(frame[:, ::-1]) if swapped else frame


def _write(query: Query, exchanges: Sequence[Exchange], now: Sequence[Part], manner: Manner) -> Prompt:
    has_media = bool(query.frames) or any(
        not isinstance(part, str) for parts in (now, *(old.user for old in exchanges)) for part in parts
    )
    if not has_media:
        exchanges = [Exchange(old.user, old.answer) for old in exchanges]
    form = interactive if manner.layout == "interactive" else conversation
    return form(exchanges, now, manner.wording, instructions=query.instructions)


def _asked(query: Query, manner: Manner) -> tuple[Part, ...]:
    words = _parts(query.utterances)
    # One picture is a photograph; a film shows at least four frames.
    pictures = [Image(frame, frame=len(query.frames) > 1) for frame in query.frames]
    return (*pictures, *words) if manner.layout == "interactive" else with_images(pictures, *words)


def _exchanges(history: Sequence[Message]) -> list[Exchange]:
    """Pair what the user said with what was heard of the answers."""
    exchanges: list[Exchange] = []
    for message in history:
        match message:
            case UserMessage(text, utterances):
                said = utterances or (Utterance(-1, text=text or ""),)
                state: State = "query" if any(one.text is None for one in said) else "typed"
                exchanges.append(Exchange(_parts(said), state=state))
            case AssistantMessage(text=text) | CallMessage(text=text) if (
                exchanges
            ):  # one whose question was forgotten goes, too
                old = exchanges[-1]
                answer = f"{old.answer} {message.text}" if old.answer else message.text
                exchanges[-1] = Exchange(old.user, answer, old.state)
    return exchanges


def _messages(history: Sequence[Message], exchanges: int) -> int:
    """How many messages the first so many exchanges are, and what no exchange holds before them."""
    begun = [place for place, message in enumerate(history) if isinstance(message, UserMessage)]
    return [*begun, len(history)][exchanges] if exchanges else 0


def _parts(utterances: Sequence[Utterance]) -> tuple[Part, ...]:
    """Sounds as media; typed texts as one, for two texts that met would run together."""
    parts: list[Part] = []
    for utterance in utterances:
        if utterance.text is None:
            parts.append(Audio(utterance))
            continue
        if parts and isinstance(parts[-1], str):
            parts[-1] = f"{parts[-1]}\n{utterance.text}"
        else:
            parts.append(utterance.text)
    return tuple(parts)


def weighed(told: Mapping[State, float]) -> Verdict:
    """Probabilities of the three states among each other, from their natural log-probabilities among all tokens."""
    best = max(told.values())
    masses = {state: math.exp(one - best) for state, one in told.items()}
    p1, p2, p3 = (masses[state] / sum(masses.values()) for state in STATES)
    return Verdict(p1, p2, p3)


class Unmarked:
    """The text of an answer as it streams, without state tokens and other control tokens."""

    def __init__(self, wording: Wording, so_far: str = "") -> None:
        """`so_far`: what of the answer is there already."""
        self._tokens = wording.reserved
        self._any = re.compile("|".join(map(re.escape, self._tokens)))
        self._held = ""
        self._has_begun = bool(so_far)

    def push(self, delta: str) -> str:
        """The text that is certain by now; what could still become a token is held back.

        What stands around a token does not close up to another one.
        """
        *before, rest = self._any.split(self._held + delta)
        longest = max(
            (n for token in self._tokens for n in range(1, len(token)) if rest.endswith(token[:n])), default=0
        )
        self._held = rest[len(rest) - longest :]
        certain = "".join(before) + rest[: len(rest) - longest]
        if not self._has_begun:
            certain = certain.lstrip(" ")  # the detokeniser puts a space behind a state token
        self._has_begun = self._has_begun or bool(certain)
        return certain

    def finish(self) -> str:
        """What was held back and became no token."""
        text, self._held = self._held, ""
        return text
