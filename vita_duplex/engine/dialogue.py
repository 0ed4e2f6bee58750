"""The dialogue of a session: accepted queries, and of each reply what was heard."""

from collections import deque
from dataclasses import dataclass

from vita_duplex.engine.seams import INPUT_RATE, AssistantMessage, Message, UserMessage

HISTORY_LIMIT = 64
"""Messages kept. Older ones go first; an instance takes what fits its own budget."""

AUDIO_LIMIT_S = 180
"""Seconds of speech kept where there are no words for it: 11.5 MB, and 2,250 tokens of VITA. Older turns go first."""


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
        while len(self._entries) > 1 and self._audio_s() > AUDIO_LIMIT_S:
            self._entries.popleft()

    def _audio_s(self) -> float:
        kept = [one for entry in self._entries if isinstance(entry, UserMessage) for one in entry.utterances]
        return sum(len(one.samples) for one in kept if one.samples is not None) / INPUT_RATE

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
