"""From the end of speech to the first reply audio: how long it took, and what was waited for."""

from vita_duplex.client.messages import Record

STEPS = (
    ("endpoint wait", "endpoint"),
    ("verdict", "verdict"),
    ("first token", "first_token"),
    ("first clause", "first_clause"),
    ("synthesis", "first_synthesised"),
    ("sending", "first_audio_sent"),
)
"""From the end of speech to the first audio: what is waited for, and the moment that ends it."""


def answer_s(record: Record) -> float | None:
    """End of speech to the first reply audio that the server sent."""
    if record.speech_end is None or record.first_audio_sent is None:
        return None
    return record.first_audio_sent - record.speech_end


def steps_s(record: Record) -> dict[str, float]:
    """The parts of `answer_s`; they add up to it.

    A step that was ready before the one ahead of it (the verdict of an early start) was not waited for: 0.
    """
    reached = record.speech_end if record.speech_end is not None else 0.0
    parts = {}
    for name, moment in STEPS:
        at: float | None = getattr(record, moment)
        parts[name] = max(0.0, at - reached) if at is not None else 0.0
        reached += parts[name]
    return parts
