"""Prompts of VITA as token ids, and the ids of its state tokens. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from vita_duplex.models.prompts import STATES, Image, Prompt, State, Wording


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
