"""By what a session decides."""

from pydantic import Field

from vita_duplex.engine.events import BargeIn, SaidInto, SettingsChanged
from vita_duplex.engine.section import Section


class Thresholds(Section):
    """The probability `p1` that an utterance needs, by what it is said into. Without a value: `verdict_threshold`."""

    speaking: float | None = Field(None, ge=0, le=1)
    """Into a reply that is being heard."""
    after: float | None = Field(None, ge=0, le=1)
    """In silence, when a reply has ended."""
    idle: float | None = Field(None, ge=0, le=1)
    """In silence, before the first reply."""


class DuplexSettings(Section):
    """How a session decides."""

    barge_in: BargeIn = "hold"
    """`hold`: speech pauses a reply until it is clear whom it is meant for, at most until its verdict · `verdict`: a
    reply goes on until the verdict · `off`: speech during a reply is ignored."""
    verdict_threshold: float = Field(0.5, ge=0, le=1)
    """Probability `p1` that a spoken utterance needs to be answered, wherever `threshold` has no value of its own."""
    threshold: Thresholds = Thresholds()
    verdict_deadline_ms: int = Field(6000, ge=0, le=60_000)
    """Milliseconds from the end of an utterance to its verdict. Without a verdict by then it is ignored."""
    first_limit_s: float = Field(10, gt=0)
    """Seconds without a token after which an answer is asked of another instance, where there is one."""
    stall_limit_s: float = Field(10, gt=0)
    """The same in mid-answer, in seconds."""

    def threshold_in(self, reply: SaidInto) -> float:
        """What an utterance needs that is said into this."""
        own: float | None = getattr(self.threshold, reply)
        return self.verdict_threshold if own is None else own

    @property
    def decisions(self) -> SettingsChanged:
        """As the core is told of them."""
        return SettingsChanged(self.barge_in, self.verdict_threshold, **self.threshold.model_dump())


class DuplexConfig(DuplexSettings):
    """What the core goes by."""

    hold_limit_s: float = Field(45, gt=0)
    """Seconds after which a hold or an early request ends whatever happens, such as when a client stops sending in
    mid-speech. `Config.deciding` derives it."""
