"""What a session tells its client; the server turns each notice into wire events."""

from dataclasses import dataclass
from typing import Literal

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.events import Cause, Reason, Status
from vita_duplex.engine.messages import Call, Usage, Verdict
from vita_duplex.engine.turn_record import TurnRecord


@dataclass(frozen=True, slots=True)
class Roles:
    """Who generates and who listens, by instance name; `swaps` counts the changes so far."""

    generator: str
    monitor: str
    swaps: int


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """The user is speaking, or not, this moment — whoever it is meant for."""

    speaking: bool


@dataclass(frozen=True, slots=True)
class UserStarted:
    """Speech that has turned out to be for us, or that nobody judges; makes stock clients go silent."""

    utterance: int
    at_ms: int
    """Start in milliseconds of received audio."""


@dataclass(frozen=True, slots=True)
class UserStopped:
    utterance: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    """The decision about some utterances; words only if they were accepted."""

    utterances: tuple[int, ...]
    verdict: Verdict | None
    accepted: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Corrected:
    """The user says that a verdict was wrong."""

    utterances: tuple[int, ...]
    meant: bool
    """Whether they were meant for us."""
    p1: float | None
    """Of the verdict, if there was one."""
    reply: Literal["speaking", "after", "idle"]
    """The situation they were said into."""


@dataclass(frozen=True, slots=True)
class UtteranceAccepted:
    """One accepted utterance entered the dialogue."""

    utterance: int
    transcript: str | None
    seconds: float | None
    """Length of its speech; None if it was typed."""


@dataclass(frozen=True, slots=True)
class UtteranceCommitted:
    """An utterance entered the dialogue without a verdict and waits to be asked about."""

    utterance: int


@dataclass(frozen=True, slots=True)
class WordsKnown:
    """The words of an utterance that was accepted, or committed, before they were known."""

    utterance: int
    transcript: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WordsFailed:
    """The words of an accepted utterance will not be known."""

    utterance: int
    message: str


@dataclass(frozen=True, slots=True)
class TurnStarted:
    turn: int
    answers: int = 0
    """The last utterance it answers."""
    spoken: bool = True
    """False: its text is sent as it is generated, without sound."""
    may_call: bool = False
    """It may have calls, and then perhaps no text."""


@dataclass(frozen=True, slots=True)
class HistoryLeftOut:
    """The model is not shown so many messages of the dialogue, the oldest, from this turn on."""

    turn: int
    messages: int


@dataclass(frozen=True, slots=True)
class TurnAudio:
    """The next samples of a turn, at the synthesiser's rate; `text` comes with the first of its piece.

    Of a turn that is not spoken: the next stretch of its text, without samples.
    """

    turn: int
    samples: Samples
    text: str | None


@dataclass(frozen=True, slots=True)
class TurnCalled:
    """The model wants a tool called; the turn may have more to say."""

    turn: int
    call: Call


@dataclass(frozen=True, slots=True)
class TurnHeld:
    turn: int


@dataclass(frozen=True, slots=True)
class TurnResumed:
    turn: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    turn: int
    status: Status | Literal["incomplete"]
    cause: Cause | Literal["max_output_tokens"] | None
    heard: str
    """The part of its text that was heard."""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class AsideStarted:
    """A request beside the conversation; its answer is text and enters no dialogue."""

    number: int
    may_call: bool = False


@dataclass(frozen=True, slots=True)
class AsideText:
    number: int
    delta: str


@dataclass(frozen=True, slots=True)
class AsideCalled:
    """The session does not know this call: it is the client's alone."""

    number: int
    call: Call


@dataclass(frozen=True, slots=True)
class AsideEnded:
    number: int
    status: Status | Literal["incomplete"]
    cause: Cause | Literal["max_output_tokens"] | None
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class PartTrouble:
    """A part failed; the session goes on."""

    part: str
    message: str


@dataclass(frozen=True, slots=True)
class TurnRecorded:
    record: TurnRecord


Notice = (
    Roles
    | VoiceActivity
    | UserStarted
    | UserStopped
    | VerdictGiven
    | Corrected
    | UtteranceAccepted
    | UtteranceCommitted
    | WordsKnown
    | WordsFailed
    | TurnStarted
    | HistoryLeftOut
    | TurnAudio
    | TurnCalled
    | TurnHeld
    | TurnResumed
    | TurnEnded
    | AsideStarted
    | AsideText
    | AsideCalled
    | AsideEnded
    | PartTrouble
    | TurnRecorded
)
