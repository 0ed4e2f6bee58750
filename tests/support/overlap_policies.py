"""What three kinds of server do with the same sound said into a reply, and what it costs the user. Pure.

- Hold and verdict: ours, as it was measured.
- The detector alone: the reply is cancelled when speech is noticed, as by `server_vad` with `interrupt_response`.
- Pause on a timer: LiveKit's defaults. The reply pauses after half a second of speech (`min_interruption_duration`). If
  the ASR finds words in it the reply is over; if not, it goes on two seconds after the speech
  (`false_interruption_timeout`, `resume_false_interruption`).
"""

from dataclasses import dataclass

from tests.support.overlaps import Outcome

MIN_INTERRUPTION_S, FALSE_INTERRUPTION_S = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What one sound does to the reply. Seconds from the first loud sample."""

    outcome: Outcome
    ended: bool
    silent_s: float = 0.0
    """Of an ended reply: when it fell silent for good."""
    pause_s: float = 0.0
    """Of one that goes on: how long it was silent in all."""

    @property
    def is_query(self) -> bool:
        return self.outcome.overlap.event.is_query

    @property
    def penalty_s(self) -> float:
        """SID-Bench's penalty time (arXiv 2603.24144): a query costs the time until the reply is silent, or all its
        length if it is missed; any other sound nothing, or all its length if it ends the reply."""
        if self.ended == self.is_query:
            return max(0.0, self.silent_s) if self.ended else 0.0
        return self.outcome.length_s

    @property
    def penalty_with_pauses_s(self) -> float:
        """The same, and the pauses of replies that go on: SID-Bench takes them for free."""
        return self.penalty_s + (0.0 if self.is_query else self.pause_s)


def hold_and_verdict(outcome: Outcome) -> Effect:
    if outcome.ended_s is None:
        return Effect(outcome, False, pause_s=sum(end - start for start, end in outcome.holds))
    held = [start for start, end in outcome.holds if end >= outcome.ended_s]
    return Effect(outcome, True, silent_s=held[0] if held else outcome.ended_s)


def detector_alone(outcome: Outcome) -> Effect:
    if outcome.noticed_s is None:
        return Effect(outcome, False)
    return Effect(outcome, True, silent_s=outcome.noticed_s)


def pause_on_timer(outcome: Outcome) -> Effect:
    if outcome.noticed_s is None or outcome.length_s < MIN_INTERRUPTION_S:
        return Effect(outcome, False)
    paused = max(outcome.noticed_s, MIN_INTERRUPTION_S)
    if outcome.words:
        return Effect(outcome, True, silent_s=paused)
    return Effect(outcome, False, pause_s=outcome.length_s + FALSE_INTERRUPTION_S - paused)


POLICIES = {
    "hold and verdict": hold_and_verdict,
    "detector alone": detector_alone,
    "pause on a timer": pause_on_timer,
}
