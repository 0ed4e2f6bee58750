"""A conversation as its client knows it, and who builds it from the server's events."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import soxr

from vita_duplex.client.messages import (
    AudioDelta,
    Hold,
    Record,
    ResponseCreated,
    ResponseDone,
    ResponseHead,
    Resume,
    Roles,
    ServerError,
    ServerEvent,
    SessionCreated,
    SessionResumed,
    SessionUpdated,
    Speech,
    TextDelta,
    Timeline,
    Verdict,
)
from vita_duplex.client.player import Heard, Held, Player
from vita_duplex.client.recording import OUTPUT_RATE, Pcm, Recording
from vita_duplex.engine.audio import INPUT_RATE

SETTLED_S = 2.0
"""With everything answered and heard, this long without an event ends the conversation."""
UNJUDGED_S = 12.0
"""The same while speech has no verdict; a cough shorter than the shortest utterance never gets one."""


@dataclass(frozen=True, slots=True)
class Said:
    """A recording and when it was played."""

    recording: Recording
    start: float

    @property
    def end(self) -> float:
        return self.start + self.recording.duration_s


@dataclass(slots=True)
class Reply:
    """One response of the server."""

    id: str
    created: float
    item_id: str = ""
    text: str = ""
    status: str | None = None
    """`completed`, `cancelled` or `failed`; None while it goes on."""
    done: float | None = None
    pieces: list[Pcm] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """When each piece came."""
    stale_samples: int = 0
    """Sent although the response was done: has to be 0."""

    @property
    def audio(self) -> Pcm:
        """Everything that was received of it, at 24 kHz."""
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)


@dataclass(slots=True)
class Conversation:
    """Everything a client learns of a session; times are seconds since it began."""

    said: list[Said] = field(default_factory=list)
    replies: dict[str, Reply] = field(default_factory=dict)
    """By response id, in the order in which they were created."""
    heard: list[Heard] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    speech: list[Speech] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    roles: list[Roles] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    errors: list[ServerError] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        return bool(self.heard)

    @property
    def all_rejected(self) -> bool:
        """The server judged what it heard, and none of it was meant for it."""
        return bool(self.verdicts) and not self.replies and not any(one.accepted for one in self.verdicts)

    @property
    def swaps(self) -> int:
        return self.roles[-1].swaps if self.roles else 0

    @property
    def transcripts(self) -> list[str]:
        """The words of the accepted utterances, as far as the server knows them."""
        return [one.transcript for one in self.verdicts if one.accepted and one.transcript]

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.replies.values()]

    @property
    def stale_samples(self) -> int:
        return sum(reply.stale_samples for reply in self.replies.values())

    def first_heard(self, response_id: str | None = None) -> float | None:
        """When the first sample of a reply, or of any, came out of the loudspeaker."""
        starts = (one.start for one in self.heard if response_id in (None, one.response_id))
        return next((start / OUTPUT_RATE for start in starts), None)

    def heard_samples(self, response_id: str) -> int:
        return sum(one.count for one in self.heard if one.response_id == response_id)

    def stalled_s(self, response_id: str) -> float:
        """Silence inside a reply that nobody asked for: its audio came too late (a busy machine, a slow way)."""
        spans = [one for one in self.heard if one.response_id == response_id]
        if not spans:
            return 0.0
        heard = sum(one.count for one in spans)
        held = sum(
            max(0, min(one.end, spans[-1].end) - max(one.start, spans[0].start))
            for one in self.held
            if one.response_id == response_id
        )
        return (spans[-1].end - spans[0].start - heard - held) / OUTPUT_RATE

    def stereo(self) -> Pcm:
        """The session as it was, at 24 kHz: left the user, right the replies as heard. Shape [n, 2]."""
        left = [
            (round(one.start * OUTPUT_RATE), soxr.resample(one.recording.samples, INPUT_RATE, OUTPUT_RATE))
            for one in self.said
        ]
        audio = {reply.id: reply.audio for reply in self.replies.values()}
        right = [(one.start, audio[one.response_id][one.first : one.first + one.count]) for one in self.heard]
        length = max((start + len(samples) for start, samples in [*left, *right]), default=0)
        tracks = np.zeros((length, 2), np.int16)
        for side, placed in enumerate((left, right)):
            for start, samples in placed:
                tracks[start : start + len(samples), side] = samples
        return tracks


class Witness:
    """Build the conversation from the server's events. Reads no clock."""

    def __init__(self, tell: Callable[[str], None] = lambda line: None) -> None:
        self.conversation = Conversation()
        self.player = Player()
        self.ready = False
        self.last_event = 0.0
        self._tell = tell
        self._unjudged = False
        self._promised = False
        self._speaking = False
        # one list, seen from both sides
        self.conversation.heard = self.player.heard
        self.conversation.held = self.player.held

    def receive(self, event: ServerEvent) -> None:
        now = self.last_event = event.at
        match event:
            case SessionCreated():
                pass
            case SessionResumed():
                self._say(now, "server", "back in the session")
            case SessionUpdated():
                self.ready = True
            case ServerError(error=body):
                self.conversation.errors.append(event)
                self._say(now, "server", f"error: {body.message or body.code}")
            case Speech(speaking=speaking):
                self.conversation.speech.append(event)
                self._speaking = speaking
                self._unjudged = self._unjudged or speaking
            case Verdict():
                self._note_verdict(event)
            case Roles(generator=generator, monitor=monitor, swaps=swaps):
                self.conversation.roles.append(event)
                self._say(now, "roles", f"{generator} generates, {monitor} monitors (swaps: {swaps})")
            case ResponseCreated(response=head):
                self.conversation.replies[head.id] = Reply(head.id, now)
                self._promised = False
            case TextDelta(response_id=response_id, delta=delta):
                self._reply(response_id, now).text += delta
            case AudioDelta(response_id=response_id):
                self._reply(response_id, now).item_id = event.item_id
                self._add_audio(self._reply(response_id, now), event.samples(), now)
            case Hold(response_id=response_id):
                self.player.hold(response_id, now)
                self._say(now, "hold", "the reply pauses")
            case Resume(response_id=response_id):
                self.player.resume(response_id, now)
                self._say(now, "resume", "the reply goes on")
            case ResponseDone(response=head):
                self._finish_reply(head, now)
            case Timeline(record=record):
                self.conversation.records.append(record)
                self._promised = self._promised and record.status == "rejected"

    def settled(self, now: float) -> bool:
        """Everything that was said is judged, answered and heard."""
        conversation = self.conversation
        going_on = any(reply.done is None for reply in conversation.replies.values())
        if self._speaking or self._promised or going_on or not self.player.idle:
            return False
        if not conversation.verdicts and not conversation.replies:
            return False
        last_heard = self.player.heard[-1].end / OUTPUT_RATE if self.player.heard else 0.0
        still_s = now - max(self.last_event, last_heard)
        return still_s > (UNJUDGED_S if self._unjudged else SETTLED_S)

    def _reply(self, response_id: str, now: float) -> Reply:
        return self.conversation.replies.setdefault(response_id, Reply(response_id, now))

    def _note_verdict(self, verdict: Verdict) -> None:
        self.conversation.verdicts.append(verdict)
        self._unjudged = False
        self._promised = verdict.accepted
        numbers = "+".join(str(number) for number in verdict.utterances)
        said = f'"{verdict.transcript}"' if verdict.transcript else f"utterance {numbers or '?'}"
        why = {"verdict": "", "deadline": ", no verdict in time"}.get(verdict.reason, f", {verdict.reason}")
        decided = "for us" if verdict.accepted else "not for us"
        p1 = f" p1 {verdict.p1:.2f}" if verdict.p1 is not None else ""
        self._say(verdict.at, "user", f"{said}  {verdict.state or '<->'}{p1}: {decided}{why}")

    def _add_audio(self, reply: Reply, samples: Pcm, now: float) -> None:
        if reply.done is not None:
            reply.stale_samples += len(samples)
            return
        reply.pieces.append(samples)
        reply.arrived.append(now)
        self.player.receive(reply.id, len(samples), now)

    def _finish_reply(self, head: ResponseHead, now: float) -> None:
        reply = self._reply(head.id, now)
        reply.status, reply.done = head.status, now
        if head.status == "cancelled":
            self.player.flush(head.id, now)
        self._say(now, "reply", f"{reply.text.strip() or '(no words)'}  [{head.status}]")

    def _say(self, now: float, who: str, what: str) -> None:
        self._tell(f"{now:7.2f}  {who:<6}  {what}")
