"""The dialogue of a session: accepted queries, and of each reply what was heard."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vita_duplex.engine.seams import AssistantMessage, Message, UserMessage

HISTORY_LIMIT = 64
"""Messages kept. Older ones go first; an instance takes what fits its own budget."""


@dataclass(slots=True)
class Reply:
    """A reply's place in the dialogue; `heard` grows until it is `cut` or complete."""

    turn: int
    heard: str = ""
    cut: bool = True


class Dialogue:
    """What was said and heard, in the order of speaking. A `<2>` utterance never gets here."""

    def __init__(self) -> None:
        self._entries: deque[UserMessage | Reply] = deque(maxlen=HISTORY_LIMIT)

    def accept(self, message: UserMessage) -> None:
        self._entries.append(message)

    def begin_reply(self, turn: int) -> None:
        self._entries.append(Reply(turn))

    def heard(self, turn: int, text: str, *, cut: bool) -> None:
        """Note what was heard so far of a reply."""
        for entry in self._entries:
            if isinstance(entry, Reply) and entry.turn == turn:
                entry.heard, entry.cut = text, cut

    def history(self) -> tuple[Message, ...]:
        """The messages for a request begun now; a reply of which nothing was heard leaves no trace."""
        return tuple(_message(entry) for entry in self._entries if not isinstance(entry, Reply) or entry.heard)


def _message(entry: UserMessage | Reply) -> Message:
    return AssistantMessage(entry.heard, entry.cut) if isinstance(entry, Reply) else entry


def fit(history: Sequence[Message], budget: int, cost: Callable[[Message], int]) -> tuple[Message, ...]:
    """As much of a history as an instance can take: its messages' costs (tokens, say) are at most `budget`.

    The oldest go first: of all turns their images; then turns with audio, whole, for an answer is worth nothing
    without its question; then turns of text, whole. A turn is what was asked in a row and the answer to it.
    """
    turns = _turns(history)

    def left() -> int:
        return budget - sum(cost(message) for turn in turns for message in turn)

    for drop in (_without_images, _without_audio, _without_text):
        for number in range(len(turns)):
            if left() >= 0:
                break
            turns[number] = drop(turns[number])
    return tuple(message for turn in turns for message in turn)


def _turns(history: Sequence[Message]) -> list[list[Message]]:
    turns: list[list[Message]] = [[]]
    for message in history:
        if isinstance(message, UserMessage) and turns[-1] and isinstance(turns[-1][-1], AssistantMessage):
            turns.append([])
        turns[-1].append(message)
    return turns


def _without_images(turn: list[Message]) -> list[Message]:
    return [replace(message, images=()) if isinstance(message, UserMessage) else message for message in turn]


def _without_audio(turn: list[Message]) -> list[Message]:
    return [] if any(isinstance(message, UserMessage) and message.utterances for message in turn) else turn


def _without_text(turn: list[Message]) -> list[Message]:
    return []
