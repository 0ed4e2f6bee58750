"""The dialogue of a session: accepted queries, and of each reply what was heard."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.messages import AssistantMessage, Call, CallMessage, Message, UserMessage, Utterance

HISTORY_LIMIT = 1000
"""Messages kept. Older ones go first; an instance takes what fits its own budget."""

TEXT_LIMIT = 1_000_000
"""Characters kept, more than any model reads. Older messages go first."""

AUDIO_LIMIT_S = 180
"""Seconds of speech kept where there are no words for it: 11.5 MB, and 2,250 tokens of VITA. Older turns go first."""


Place = tuple[Literal["message", "reply"], int] | tuple[Literal["call"], str]
"""An entry: an utterance or a message by its number, a reply by its turn, a call with its output by its id."""


@dataclass(slots=True, eq=False)
class UserEntry:
    """What the user said or typed; `waiting` until it is asked about, if that takes a request of the client."""

    message: UserMessage
    numbers: tuple[int, ...] = ()
    waiting: bool = False

    @property
    def text(self) -> str:
        return self.message.text or ""


@dataclass(slots=True, eq=False)
class AssistantEntry:
    """A reply of an earlier conversation, which the client added."""

    message: AssistantMessage
    number: int

    @property
    def text(self) -> str:
        return self.message.text


@dataclass(slots=True, eq=False)
class Reply:
    """A reply's place in the dialogue; `text`, what was heard of it, grows until it is `cut` or complete."""

    turn: int
    text: str = ""
    cut: bool = True


@dataclass(slots=True, eq=False)
class CallEntry:
    """A call, with its output once that is there."""

    message: CallMessage

    @property
    def text(self) -> str:
        return self.message.text


Entry = UserEntry | AssistantEntry | Reply | CallEntry


class Dialogue:
    """What was said, heard and called, in the order of speaking. A `<2>` utterance never gets here."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def accept(self, message: UserMessage, numbers: tuple[int, ...] = (), *, waiting: bool = False) -> None:
        """Enter what the user said; `numbers` are those of its utterances.

        What is answered at once answers what waited before it as well: it was shown it.
        """
        if not waiting:
            self._end_waiting()
        self._append(UserEntry(message, numbers, waiting))

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        while len(self._entries) > 1 and self._is_too_long:
            del self._entries[0]

    @property
    def _is_too_long(self) -> bool:
        said = [entry.message for entry in self._entries if isinstance(entry, UserEntry)]
        sounds = (one.samples for message in said for one in message.utterances)
        seconds = sum(len(samples) for samples in sounds if samples is not None) / INPUT_RATE
        characters = sum(len(entry.text) for entry in self._entries)
        return seconds > AUDIO_LIMIT_S or characters > TEXT_LIMIT or len(self._entries) > HISTORY_LIMIT

    def _end_waiting(self) -> None:
        for entry in self._entries:
            if isinstance(entry, UserEntry):
                entry.waiting = False

    def add_assistant_message(self, number: int, message: AssistantMessage) -> None:
        """Enter a reply of an earlier conversation; `number` is one of the utterances' numbers."""
        self._append(AssistantEntry(message, number))

    def move(self, place: Place, behind: Iterable[Place]) -> None:
        """Move an entry behind the first of these entries that there is; if there is none, to the beginning. It waits
        for an answer no more, unless what follows it does: a client puts it among what was said before."""
        places = {known: entry for entry in self._entries for known in _places(entry)}
        if (entry := places.pop(place, None)) is None:
            return
        self._entries.remove(entry)
        before = next((places[place] for place in behind if place in places), None)
        index = self._entries.index(before) + 1 if before else 0
        if isinstance(entry, UserEntry):
            follows = self._entries[index] if index < len(self._entries) else None
            entry.waiting = isinstance(follows, UserEntry) and follows.waiting
        self._entries.insert(index, entry)

    @property
    def waits(self) -> bool:
        """Whether the newest message waits for an answer."""
        newest = self._entries[-1] if self._entries else None
        return isinstance(newest, UserEntry) and newest.waiting

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
            if isinstance(entry, UserEntry) and entry.numbers == numbers and entry.message.text is None:
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

    def add_call(self, call: Call) -> None:
        self._append(CallEntry(CallMessage(call)))

    def add_output(self, call: Call, output: str, *, late: bool) -> None:
        """Enter what came of a call. If something was said since the call, the call moves to its output, where the
        model will look for both."""
        message = CallMessage(call, output, late)
        for entry in reversed(self._entries):
            if not isinstance(entry, CallEntry):
                break
            if entry.message.call.id == call.id:
                entry.message = message
                return
        self.remove_call(call.id)
        self._append(CallEntry(message))

    def remove_call(self, call_id: str) -> None:
        for entry in list(self._entries):
            if isinstance(entry, CallEntry) and entry.message.call.id == call_id:
                self._entries.remove(entry)

    def remove_reply(self, turn: int) -> None:
        for entry in [entry for entry in self._entries if isinstance(entry, Reply) and entry.turn == turn]:
            self._entries.remove(entry)

    def begin_reply(self, turn: int) -> None:
        self._append(Reply(turn))

    def note_heard(self, turn: int, text: str, *, cut: bool) -> None:
        """Note what was heard so far of a reply."""
        for entry in self._entries:
            if isinstance(entry, Reply) and entry.turn == turn:
                entry.text, entry.cut = text, cut

    def heard(self, turn: int) -> str | None:
        """What was heard of a reply; None: it is not here."""
        replies = (entry for entry in self._entries if isinstance(entry, Reply) and entry.turn == turn)
        return next((reply.text for reply in replies), None)

    def history(self) -> tuple[Message, ...]:
        """The messages for a request begun now; a reply of which nothing was heard leaves no trace."""
        return tuple(_message(entry) for entry in self._entries if not isinstance(entry, Reply) or entry.text)


def _places(entry: Entry) -> list[Place]:
    match entry:
        case UserEntry(numbers=numbers):
            return [("message", number) for number in numbers]
        case AssistantEntry(number=number):
            return [("message", number)]
        case Reply(turn):
            return [("reply", turn)]
        case CallEntry(message):
            return [("call", message.call.id)]


def _message(entry: Entry) -> Message:
    return AssistantMessage(entry.text, entry.cut) if isinstance(entry, Reply) else entry.message
