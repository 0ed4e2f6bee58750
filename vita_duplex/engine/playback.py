"""What is played to the client, held, and heard of it."""

import re

from vita_duplex.engine.dialogue import Dialogue
from vita_duplex.engine.ledger import Ledger
from vita_duplex.engine.messages import Situation
from vita_duplex.engine.turn import Turn

LAST_WORDS = 200
"""Characters of the assistant's last sentence that a request for a verdict is told."""

LEDGERS_KEPT = 64
"""Replies of which a client may still say how much of them was heard."""


class Playback:
    """The reply that has the floor, as the client was told, and the ledgers of replies that are over.

    Keeps the dialogue up to what was heard.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        self.turn: Turn | None = None
        """A command later than the core's floor."""
        self._dialogue = dialogue
        self._past: dict[int, tuple[Ledger, int]] = {}  # with the pacing clock at the reply's end
        self._held = False
        self._away = False
        self._ended: float | None = None  # when the latest reply was over
        self._last_words = ""  # heard of it

    def begin(self, turn: Turn) -> None:
        self.turn, self._held = turn, False
        self._dialogue.begin_reply(turn.number)
        if self._away:
            turn.speech.hold()

    def end(self, now: float, *, completed: bool) -> str:
        """Return the text that was heard."""
        turn, self.turn = self.turn, None
        assert turn is not None
        clock = turn.speech.heard()
        if completed:
            turn.ledger.acknowledge(turn.ledger.sent, clock)  # nothing stops what a slow client still has to play
        self._past[turn.number] = turn.ledger, clock
        if len(self._past) > LEDGERS_KEPT:
            del self._past[next(iter(self._past))]
        turn.heard = turn.ledger.heard(clock)
        text = self._note_heard(turn.number, turn.ledger, turn.heard, over=completed)
        if text:  # a reply of which nothing was heard leaves no trace
            self._ended, self._last_words = now, last_sentence(text)
        return text

    def situation(self, now: float) -> Situation:
        """What is said now is said into this."""
        if turn := self.turn:
            return Situation("speaking", 0.0, last_sentence(self._heard_text(turn)))
        if self._ended is None:
            return Situation()
        return Situation("after", now - self._ended, self._last_words)

    def bring_dialogue_up(self) -> None:
        """Enter what was heard by now of the reply that has the floor."""
        if turn := self.turn:
            self._note_heard(turn.number, turn.ledger, turn.ledger.heard(turn.speech.heard()), over=False)

    def _heard_text(self, turn: Turn) -> str:
        return turn.ledger.heard_text(turn.ledger.heard(turn.speech.heard()))

    def _note_heard(self, number: int, ledger: Ledger, heard: int, *, over: bool) -> str:
        text = ledger.heard_text(heard)
        self._dialogue.note_heard(number, text, cut=not over or heard < ledger.sent)
        return text

    @property
    def held(self) -> bool:
        """Whether the reply waits for the verdict on what is said into it."""
        return self._held

    # ── holding ────────────────────────────────────────────────────────────────────────

    def hold(self) -> None:
        assert self.turn is not None
        self._held = True
        self.turn.speech.hold()

    def resume(self) -> None:
        assert self.turn is not None
        self._held = False
        if not self._away:
            self.turn.speech.resume()

    def leave(self) -> None:
        """The client is away: what it has not heard waits for it."""
        self._away = True
        if self.turn:
            self.turn.speech.hold()

    def come_back(self) -> None:
        """The client is there again."""
        self._away = False
        if self.turn and not self._held:
            self.turn.speech.resume()

    # ── what the client says it has played ─────────────────────────────────────────────

    def acknowledge(self, number: int, samples: int) -> None:
        """The client has played so much of a turn."""
        if self.turn and number == self.turn.number:
            self.turn.ledger.acknowledge(samples, self.turn.speech.heard())
        elif number in self._past:
            ledger, clock = self._past[number]
            ledger.acknowledge(samples, clock)
            self._correct(number)

    def truncate(self, number: int, samples: int) -> bool:
        """The client plays no more than so much of a turn. False: there is no such turn."""
        if self.turn and number == self.turn.number:
            self.turn.ledger.truncate(samples)
            return True
        if number not in self._past:
            return False
        self._past[number][0].truncate(samples)
        self._correct(number)
        return True

    def _correct(self, number: int) -> None:
        """Bring the dialogue up to what a client says late about a reply that is over."""
        ledger, clock = self._past[number]
        self._note_heard(number, ledger, ledger.heard(clock), over=True)


def last_sentence(text: str) -> str:
    """The end of a text from its last full stop but one, at most `LAST_WORDS` characters."""
    return re.split(r"(?<=[.!?。！？])\s*(?=\S)", text.strip())[-1][-LAST_WORDS:]
