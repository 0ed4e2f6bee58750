"""What a picture of a session shows, from a client's conversation or from a session log. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from vita_duplex.client.conversation import Conversation, Reply
from vita_duplex.client.messages import Record, Roles, as_record
from vita_duplex.client.recording import OUTPUT_RATE, Pcm
from vita_duplex.engine.events import SpeechEnded, SpeechPaused, SpeechResumed, SpeechStarted
from vita_duplex.engine.session_log import LogError, SessionLog

LATE_S = 0.03
"""Pieces that come no later than this belong together: pacing goes by 20 ms."""

Span = tuple[float, float]
"""From when to when, in seconds since the session began."""


@dataclass(slots=True)
class Sound:
    """What became of one reply's audio. A span's length is a length of audio."""

    sent: list[Span]
    heard: list[Span]
    held: list[Span]
    text: str = ""
    """Only a client knows it."""


@dataclass(slots=True)
class Timeline:
    """A session as it is drawn."""

    title: str
    records: list[Record]
    roles: list[Roles] = field(default_factory=list)
    speech: list[Span] = field(default_factory=list)
    """As the endpointer told it: a moment after the first sound, and some silence after the last."""
    pauses: list[Span] = field(default_factory=list)
    """Its short silences, in which an early request runs."""
    sounds: dict[str, Sound] = field(default_factory=dict)
    """By response id."""
    words: dict[tuple[int, ...], str] = field(default_factory=dict)
    """What was said, by utterances; a log has none."""
    tracks: Pcm | None = None
    """At 24 kHz, shape [n, 2]: left the user, right the replies as heard; a log has none."""

    def first_heard(self, response_id: str | None) -> float | None:
        """When the first sample of a reply was heard."""
        sound = self.sounds.get(response_id or "")
        return sound.heard[0][0] if sound and sound.heard else None

    @property
    def end(self) -> float:
        moments = [len(self.tracks) / OUTPUT_RATE if self.tracks is not None else 0.0]
        moments += [end for sound in self.sounds.values() for _, end in (*sound.sent, *sound.heard, *sound.held)]
        moments += [end for _, end in self.speech]
        for record in self.records:
            moments += [at for at in (record.finished, record.generated, record.verdict) if at is not None]
        return max(moments)


# ── from a client ──────────────────────────────────────────────────────────────────────


def of_conversation(conversation: Conversation) -> Timeline:
    names = dict.fromkeys(one.recording.name for one in conversation.said)
    speech = _spans([(one.at, one.speaking) for one in conversation.speech])
    sounds = {reply.id: _sound(conversation, reply) for reply in conversation.replies.values()}
    return Timeline(
        " + ".join(names) or "nothing said",
        conversation.records,
        conversation.roles,
        speech,
        sounds=sounds,
        words={one.utterances: one.transcript for one in conversation.verdicts if one.transcript},
        tracks=conversation.stereo(),
    )


def _sound(conversation: Conversation, reply: Reply) -> Sound:
    lengths = [len(piece) / OUTPUT_RATE for piece in reply.pieces]
    return Sound(
        _queue_up(zip(reply.arrived, lengths, strict=True)),
        [(one.start / OUTPUT_RATE, one.end / OUTPUT_RATE) for one in conversation.heard if one.response_id == reply.id],
        [(one.start / OUTPUT_RATE, one.end / OUTPUT_RATE) for one in conversation.held if one.response_id == reply.id],
        " ".join(reply.text.split()),
    )


def _spans(changes: Sequence[tuple[float, bool]]) -> list[Span]:
    """From moments at which something begins or is over."""
    spans, since = [], None
    for at, on in changes:
        if on and since is None:
            since = at
        elif not on and since is not None:
            spans.append((since, at))
            since = None
    return spans


def _queue_up(pieces: Iterable[tuple[float, float]]) -> list[Span]:
    """Pieces by arrival and length, each after the one before it, with a gap where one came late."""
    spans: list[Span] = []
    for at, length in pieces:
        if spans and at < spans[-1][1] + LATE_S:
            spans[-1] = spans[-1][0], spans[-1][1] + length
        else:
            spans.append((at, at + length))
    return spans


# ── from a log ─────────────────────────────────────────────────────────────────────────


def of_log(log: SessionLog, title: str) -> Timeline:
    """Errors: `LogError`."""
    try:
        records = [_record(record) for record in log.records]
    except ValidationError as error:
        raise LogError("a record in the log is not of this version") from error
    speaking, pausing = [], []
    for step in log.steps:
        at = step.now - log.header.began
        match step.event:
            case SpeechStarted():
                speaking.append((at, True))
            case SpeechPaused():
                pausing.append((at, True))
            case SpeechResumed():
                pausing.append((at, False))
            case SpeechEnded():
                speaking.append((at, False))
                pausing.append((at, False))
    return Timeline(
        title,
        records,
        [Roles(at=at, generator=one.generator, monitor=one.monitor, swaps=one.swaps) for at, one in log.roles],
        _spans(speaking),
        _spans(pausing),
        {str(record.response_id): _lay_out(record, log.header.voice_rate) for record in records if record.is_reply},
    )


def _record(record: dict[str, Any]) -> Record:
    return as_record({**record, "response_id": f"resp_{record.get('turn')}"})


def _lay_out(record: Record, rate: int) -> Sound:
    """A log counts samples: heard from the first on, except in holds; sent, and not heard, just before the end."""
    ends = record.finished if record.finished is not None else float("inf")
    held = [(start, ends if end is None else end) for start, end in record.holds]
    start = record.first_audio_sent
    if start is None:
        return Sound([], [], held)
    sent, heard = record.samples.sent / rate, record.samples.heard / rate
    spans = _around(start, heard, held)
    begin, end = spans[-1] if spans else (start, start)
    return Sound([*spans[:-1], (begin, end + sent - heard)], spans, held)


def _around(start: float, length: float, gaps: Iterable[Span]) -> list[Span]:
    """Spans of that length in all, with nothing in the gaps."""
    spans = []
    for begin, end in gaps:
        part = min(length, max(0.0, begin - start))
        if part:
            spans.append((start, start + part))
        start, length = max(start, end), length - part
    return [*spans, (start, start + length)] if length > 0 else spans
