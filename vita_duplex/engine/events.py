"""The vocabulary of the duplex core: what a session can be told (events) and what it decides (commands)."""

from dataclasses import dataclass
from typing import Literal

# ── events: from the listener ──────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user began to speak: enough windows of speech to be no blip."""

    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechSustained:
    """The speech has gone on for `hold_after_ms`: long enough to pause a reply for."""

    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The first short silence (`early_ms`): perhaps the end."""

    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """Not the end: speech went on after a pause."""

    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechGrew:
    """Speech into a reply has gone on for so long that a glance may tell more than the one before."""

    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechForgotten:
    """The client wants what is being said to be as if it had not been."""

    utterance: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The utterance is over and will not grow any more."""

    utterance: int


@dataclass(frozen=True, slots=True)
class QueryTyped:
    """The user typed a query; it carries an utterance number like a spoken one, and needs no verdict."""

    utterance: int


@dataclass(frozen=True, slots=True)
class AnswerAsked:
    """The client wants the outputs of calls answered; like a typed query, but it waits for the reply under way."""

    utterance: int


# ── events: from an instance, the speaker and the client ──────────────────────────────


@dataclass(frozen=True, slots=True)
class VerdictReached:
    """State token probabilities of the utterances that turn `turn` was begun for."""

    turn: int
    p1: float
    p2: float
    p3: float


@dataclass(frozen=True, slots=True)
class Glanced:
    """A glance is over; `p1` is that of the speech so far, None if the instance could not tell."""

    glance: int
    p1: float | None


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The model has generated the whole reply."""

    turn: int


@dataclass(frozen=True, slots=True)
class ReplyFailed:
    """The instance could not go on with this turn."""

    turn: int


@dataclass(frozen=True, slots=True)
class Played:
    """Everything that was generated for this turn has been heard."""

    turn: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The client wants this reply to stop."""

    turn: int


BargeIn = Literal["hold", "verdict", "off"]


SaidInto = Literal["speaking", "after", "idle"]
"""Where an utterance began: into a reply that was heard · after one had ended · before there was any."""


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The client wants what is not decided yet to be decided like this (fields of `DuplexConfig`)."""

    barge_in: BargeIn
    verdict_threshold: float
    speaking: float | None = None
    """Of its `threshold`, like the next two."""
    after: float | None = None
    idle: float | None = None


Event = (
    SpeechStarted
    | SpeechSustained
    | SpeechPaused
    | SpeechResumed
    | SpeechGrew
    | SpeechForgotten
    | SpeechEnded
    | QueryTyped
    | AnswerAsked
    | VerdictReached
    | Glanced
    | ReplyEnded
    | ReplyFailed
    | Played
    | CancelAsked
    | SettingsChanged
)

# ── commands ───────────────────────────────────────────────────────────────────────────

Slot = Literal[0, 1]
Status = Literal["completed", "cancelled", "failed"]
Cause = Literal["turn_detected", "client_cancelled", "instance_failed"]
"""Why a turn did not complete; the first two are OpenAI Realtime's `status_details.reason`."""
Reason = Literal["verdict", "deadline", "failed"]
"""What decided about an utterance."""


@dataclass(frozen=True, slots=True)
class Warm:
    """Compute the dialogue so far on a slot's instance, for a request that may come; a `Begin` ends this."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Begin:
    """Start a request on a slot's instance: judge these utterances (spoken ones) and answer them."""

    slot: Slot
    turn: int
    utterances: tuple[int, ...]
    abstained: bool = False
    """An early verdict about them was too close to the threshold to decide."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop the request of this turn in its engine."""

    slot: Slot
    turn: int


@dataclass(frozen=True, slots=True)
class Glance:
    """Ask a slot's instance for a verdict, and nothing more, on what this utterance is so far."""

    slot: Slot
    glance: int
    utterance: int


@dataclass(frozen=True, slots=True)
class EndGlance:
    """Nobody waits for this glance any more."""

    glance: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An utterance that goes on is surely meant for us, and ends the reply: its start is told."""

    utterance: int


@dataclass(frozen=True, slots=True)
class Accept:
    """The utterances were meant for us: they enter the dialogue."""

    turn: int
    utterances: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """The utterances were not meant for us: forget them."""

    turn: int
    utterances: tuple[int, ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Swap:
    """The slots change roles."""

    generator: Slot
    monitor: Slot


@dataclass(frozen=True, slots=True)
class GiveFloor:
    """From now on this turn is the one that is heard."""

    turn: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Send nothing more of this turn for now; cancel nothing."""

    turn: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with this turn at the exact sample where it was held."""

    turn: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The turn's one terminal command: drop what is unsent, tell the client."""

    turn: int
    status: Status
    cause: Cause | None = None


Command = (
    Warm | Begin | Abort | Glance | EndGlance | Interrupt | Accept | Reject | Swap | GiveFloor | Hold | Resume | Finish
)
"""The shell carries out the commands of a step in their order, and relies on it:

- Abort comes before everything that the client is told (Accept, Reject, Hold, Resume, Finish, GiveFloor), so that the
  engine ends first.
- Of one turn: Begin, Accept, GiveFloor, Hold, Resume, Finish, as far as they are in the step.
- Of two turns: the Finish of the old one, then Swap, then GiveFloor to the new one. So the floor is free, and the
  client knows who serves it, before the next reply begins.
- An EndGlance comes first: what follows may ask the same instance.
- A glance that ends a reply: Abort, Interrupt, Finish, Swap.
- A verdict that takes the floor: Abort, Accept, Finish, Swap, GiveFloor, Hold. A typed query: Abort, Finish, Begin,
  Accept, GiveFloor, Hold. An answer that has waited: Abort, Resume, Finish, and as a typed query.
"""
