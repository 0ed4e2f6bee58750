"""One record per turn, written from the events and commands a session sees; every measurement derives from it."""

from dataclasses import dataclass, field
from typing import Literal

Ending = Literal["completed", "cancelled", "failed", "rejected"]


@dataclass(slots=True)
class SampleCounts:
    """What became of a turn's audio, in samples at the synthesiser's rate."""

    synthesised: int = 0
    sent: int = 0
    heard: int = 0


@dataclass(slots=True)
class TurnRecord:
    """Moments of one turn in seconds since the session began; `None` where it did not happen."""

    turn: int
    utterances: tuple[int, ...]
    slot: int
    instance: str
    """The first that was asked; empty until the turn is over."""
    begun: float
    """The request went to the instance (before `endpoint` where the early start was used)."""
    status: Ending | None = None
    reason: str | None = None
    speech_start: float | None = None
    speech_end: float | None = None
    """The last sample of speech."""
    endpoint: float | None = None
    """The endpointer declared the utterance over."""
    asr_s: float | None = None
    """Seconds spent on turning speech into words."""
    verdict: float | None = None
    state: str | None = None
    p1: float | None = None
    abstained: bool = False
    """An earlier verdict about the same utterances was too close to the threshold to decide."""
    floor: float | None = None
    first_token: float | None = None
    first_clause: float | None = None
    """The first piece of text to be spoken was complete."""
    first_synthesised: float | None = None
    first_audio_sent: float | None = None
    moves: list[tuple[float, str]] = field(default_factory=list)
    """When another instance went on in the place of one that failed, and which."""
    holds: list[tuple[float, float | None]] = field(default_factory=list)
    cut_in_hold: bool = False
    """The turn ended in its last hold; every other hold ended with a resume."""
    aborted: float | None = None
    generated: float | None = None
    """The model's last token."""
    finished: float | None = None
    underruns: int = 0
    """Gaps the user heard because the voice, or the text for it, was late."""
    loop_lag_s: float = 0.0
    """How late the event loop was at worst while the turn lasted; what the moments here do not show."""
    text_chars: int = 0
    samples: SampleCounts = field(default_factory=SampleCounts)
