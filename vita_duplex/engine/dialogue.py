"""The dialogue of a session: accepted queries, and of each reply what was heard."""

from collections import deque
from dataclasses import dataclass

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.messages import AssistantMessage, Message, UserMessage, Utterance

HISTORY_LIMIT = 64
"""Messages kept. Older ones go first; an instance takes what fits its own budget."""

AUDIO_LIMIT_S = 180
"""Seconds of speech kept where there are no words for it: 11.5 MB, and 2,250 tokens of VITA. Older turns go first."""


@dataclass(slots=True)
class UserEntry:
    """What the user said or typed; `waiting` until it is asked about, if that takes a request of the client."""

    message: UserMessage
    numbers: tuple[int, ...] = ()
    waiting: bool = False


@dataclass(slots=True)
class AssistantEntry:
    """A reply of an earlier conversation, which the client added."""

    message: AssistantMessage
    number: int


@dataclass(slots=True)
class Reply:
    """A reply's place in the dialogue; `heard` grows until it is `cut` or complete."""

    turn: int
    heard: str = ""
    cut: bool = True


class Dialogue:
    """What was said and heard, in the order of speaking. A `<2>` utterance never gets here."""

    def __init__(self) -> None:
        self._entries: deque[UserEntry | AssistantEntry | Reply] = deque(maxlen=HISTORY_LIMIT)

    def accept(self, message: UserMessage, numbers: tuple[int, ...] = (), *, waiting: bool = False) -> None:
        """Enter what the user said; `numbers` are those of its utterances.

        What is answered at once answers what waited before it as well: it was shown it.
        """
        if not waiting:
            self._end_waiting()
        self._entries.append(UserEntry(message, numbers, waiting))
        while len(self._entries) > 1 and self._audio_s() > AUDIO_LIMIT_S:
            self._entries.popleft()

    def _end_waiting(self) -> None:
        for entry in self._entries:
            if isinstance(entry, UserEntry):
                entry.waiting = False

    def add_assistant_message(self, number: int, message: AssistantMessage) -> None:
        """Enter a reply of an earlier conversation; `number` is one of the utterances' numbers."""
        self._entries.append(AssistantEntry(message, number))

    @property
    def waiting(self) -> int:
        """How much waits for an answer."""
        return sum(isinstance(entry, UserEntry) and entry.waiting for entry in self._entries)

    def take_waiting(self) -> list[UserEntry]:
        """Remove and return what was said last and waits for an answer, oldest first."""
        taken: list[UserEntry] = []
        while self._entries and isinstance(entry := self._entries[-1], UserEntry) and entry.waiting:
            taken.insert(0, entry)
            self._entries.pop()
        return taken

    def take_question(self) -> Utterance | None:
        """Take out what waits, as one utterance: texts in a row are one question; before and between recordings they
        are messages of their own. None: the newest message does not wait, and the dialogue is answered as it is."""
        waiting = self.take_waiting()
        if not waiting:
            self._end_waiting()
            return None
        newest = waiting[-1]
        first = len(waiting) - 1
        while newest.message.text is not None and first > 0 and waiting[first - 1].message.text is not None:
            first -= 1
        for entry in waiting[:first]:
            self.accept(entry.message, entry.numbers)
        if newest.message.text is None:
            return newest.message.utterances[0]
        return Utterance(newest.numbers[-1], text="\n".join(entry.message.text or "" for entry in waiting[first:]))

    def put_words(self, numbers: tuple[int, ...], text: str) -> None:
        """The words of utterances are known now; their sound is not needed any more."""
        for entry in self._entries:
            if isinstance(entry, UserEntry) and entry.numbers == numbers:
                entry.message = UserMessage(text)

    def remove_message(self, number: int) -> None:
        """Forget an utterance, or an assistant message that was added. Utterances that were judged together are one
        message, which goes with the last of them."""
        for entry in list(self._entries):
            match entry:
                case UserEntry(numbers=numbers) if number in numbers:
                    entry.numbers = tuple(one for one in numbers if one != number)
                    if not entry.numbers:
                        self._entries.remove(entry)
                case AssistantEntry(number=added) if added == number:
                    self._entries.remove(entry)

    def remove_reply(self, turn: int) -> None:
        for entry in [entry for entry in self._entries if isinstance(entry, Reply) and entry.turn == turn]:
            self._entries.remove(entry)

    def _audio_s(self) -> float:
        kept = [one for entry in self._entries if isinstance(entry, UserEntry) for one in entry.message.utterances]
        return sum(len(one.samples) for one in kept if one.samples is not None) / INPUT_RATE

    def begin_reply(self, turn: int) -> None:
        self._entries.append(Reply(turn))

    def note_heard(self, turn: int, text: str, *, cut: bool) -> None:
        """Note what was heard so far of a reply."""
        for entry in self._entries:
            if isinstance(entry, Reply) and entry.turn == turn:
                entry.heard, entry.cut = text, cut

    def history(self) -> tuple[Message, ...]:
        """The messages for a request begun now; a reply of which nothing was heard leaves no trace."""
        return tuple(_message(entry) for entry in self._entries if not isinstance(entry, Reply) or entry.heard)


def _message(entry: UserEntry | AssistantEntry | Reply) -> Message:
    return AssistantMessage(entry.heard, entry.cut) if isinstance(entry, Reply) else entry.message
