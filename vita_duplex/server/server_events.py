"""What the server sends: a session's notices as OpenAI Realtime GA server events, and `vita.*` ones. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

import base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, assert_never

from vita_duplex.engine.notices import (
    Judged,
    Notice,
    PartTrouble,
    Roles,
    TurnAudio,
    TurnEnded,
    TurnHeld,
    TurnRecorded,
    TurnResumed,
    TurnStarted,
    UserStarted,
    UserStopped,
    UtteranceAccepted,
    VoiceActivity,
)
from vita_duplex.engine.seams import Samples
from vita_duplex.server.client_events import ClientError, encode_pcm16
from vita_duplex.server.resample import Resampler

Json = dict[str, Any]


@dataclass(slots=True)
class Response:
    """The reply under way."""

    turn: int
    resampler: Resampler
    previous_item: str | None
    texts: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"resp_{self.turn}"

    @property
    def item_id(self) -> str:
        return _reply_item(self.turn)

    @property
    def transcript(self) -> str:
        return " ".join(self.texts)


class ServerEvents:
    """Turns the notices of one session into events, in the order the reference gives.

    `voice_rate` is the rate of the samples in `TurnAudio`; `rate_out`, which `session.update` may change,
    that of the wire. `vita_events`: whether the client asked for events the reference does not know.
    """

    def __init__(self, session_id: str, *, voice_rate: int, vita_events: bool) -> None:
        self.rate_out = 24_000
        self._session_id = session_id
        self._voice_rate = voice_rate
        self._vita_events = vita_events
        self._numbers = count(1)
        self._response: Response | None = None
        self._last_item: str | None = None

    @property
    def responding(self) -> Response | None:
        """The reply under way."""
        return self._response

    def translate(self, notice: Notice) -> Iterator[Json]:
        match notice:
            case UserStarted(utterance, at_ms):
                yield self._event(
                    "input_audio_buffer.speech_started", item_id=_user_item(utterance), audio_start_ms=at_ms
                )
            case UserStopped(utterance, at_ms):
                yield self._event(
                    "input_audio_buffer.speech_stopped", item_id=_user_item(utterance), audio_end_ms=at_ms
                )
            case UtteranceAccepted():
                yield from self._accepted(notice)
            case TurnStarted(turn):
                self._response = Response(turn, Resampler(self._voice_rate, self.rate_out), self._last_item)
                yield from self._response_started(self._response)
            case TurnAudio(turn, samples, text):
                if self._response and turn == self._response.turn:
                    yield from self._audio(self._response, samples, text)
            case TurnEnded():
                if self._response and notice.turn == self._response.turn:
                    response, self._response = self._response, None
                    yield from self._response_ended(response, notice)
            case PartTrouble(part, message):
                yield self._error("server_error", f"{part}_failed".replace(" ", "_"), message)
            case Roles() | VoiceActivity() | Judged() | TurnHeld() | TurnResumed() | TurnRecorded():
                if self._vita_events:
                    yield self._vita_event(notice)
            case _:
                assert_never(notice)

    def session(self, kind: str, fields: Json) -> Json:
        """`session.created` or `session.updated` with what is in effect."""
        return self._event(kind, session={"id": self._session_id, "object": "realtime.session", **fields})

    def cleared(self) -> Json:
        return self._event("input_audio_buffer.cleared")

    def truncated(self, turn: int, audio_end_ms: int) -> Json:
        item_id = _reply_item(turn)
        return self._event("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)

    def typed_item(self, utterance: int, text: str) -> Iterator[Json]:
        """A typed query entered the conversation."""
        yield from self._item_added(_user_item(utterance), [{"type": "input_text", "text": text}])

    def client_error(self, error: ClientError) -> Json:
        return self._error("invalid_request_error", error.code, error.message, error.param, error.event_id)

    def server_error(self, code: str, message: str) -> Json:
        return self._error("server_error", code, message)

    def draining(self, seconds_left: float) -> Json:
        """The server is stopping. The reference has no event for that; clients that know only it get an error."""
        if self._vita_events:
            return self._event("vita.draining", seconds_left=round(seconds_left, 1))
        message = f"The server is stopping: a running reply has {seconds_left:.0f} s to finish, then the session ends."
        return self.server_error("server_draining", message)

    # ── the user's side ────────────────────────────────────────────────────────────────

    def _accepted(self, notice: UtteranceAccepted) -> Iterator[Json]:
        if notice.seconds is None:
            return  # typed: its item was added when it came in
        item_id = _user_item(notice.utterance)
        yield self._event("input_audio_buffer.committed", item_id=item_id, previous_item_id=self._last_item)
        yield from self._item_added(item_id, [{"type": "input_audio", "transcript": notice.transcript}])
        if notice.transcript is not None:
            yield self._event(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=notice.transcript,
                usage={"type": "duration", "seconds": round(notice.seconds, 3)},
            )

    def _item_added(self, item_id: str, content: list[Json]) -> Iterator[Json]:
        item = _item(item_id, "user", "completed", content)
        previous, self._last_item = self._last_item, item_id
        yield self._event("conversation.item.added", item=item, previous_item_id=previous)
        yield self._event("conversation.item.done", item=item, previous_item_id=previous)

    # ── the reply ──────────────────────────────────────────────────────────────────────

    def _response_started(self, response: Response) -> Iterator[Json]:
        yield self._event("response.created", response=self._resource(response, "in_progress", None, []))
        item = _item(response.item_id, "assistant", "in_progress", [])
        yield self._event("response.output_item.added", response_id=response.id, output_index=0, item=item)
        self._last_item = response.item_id
        yield self._event("conversation.item.added", item=item, previous_item_id=response.previous_item)
        yield self._content("response.content_part.added", response, part={"type": "audio", "transcript": ""})

    def _audio(self, response: Response, samples: Samples, text: str | None) -> Iterator[Json]:
        if text is not None:
            delta = text if not response.texts else f" {text}"
            response.texts.append(text)
            yield self._content("response.output_audio_transcript.delta", response, delta=delta)
        yield from self._audio_delta(response, response.resampler.push(samples))

    def _audio_delta(self, response: Response, samples: Samples) -> Iterator[Json]:
        if len(samples):
            delta = base64.b64encode(encode_pcm16(samples)).decode()
            yield self._content("response.output_audio.delta", response, delta=delta)

    def _response_ended(self, response: Response, notice: TurnEnded) -> Iterator[Json]:
        completed = notice.status == "completed"
        if notice.status != "cancelled":
            yield from self._audio_delta(response, response.resampler.finish())
        # Of a reply that was cut, only what was heard: the client shows what the dialogue holds.
        transcript = response.transcript if completed else notice.heard
        part = {"type": "audio", "transcript": transcript}
        yield self._content("response.output_audio.done", response)
        yield self._content("response.output_audio_transcript.done", response, transcript=transcript)
        yield self._content("response.content_part.done", response, part=part)
        content = [{"type": "output_audio", "transcript": transcript}]
        item = _item(response.item_id, "assistant", "completed" if completed else "incomplete", content)
        yield self._event("response.output_item.done", response_id=response.id, output_index=0, item=item)
        yield self._event("conversation.item.done", item=item, previous_item_id=response.previous_item)
        yield self._event("response.done", response=self._resource(response, notice.status, _details(notice), [item]))

    def _resource(self, response: Response, status: str, details: Json | None, output: list[Json]) -> Json:
        return {
            "id": response.id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": output,
            "output_modalities": ["audio"],
        }

    def _content(self, kind: str, response: Response, **fields: Any) -> Json:
        return self._event(
            kind, response_id=response.id, item_id=response.item_id, output_index=0, content_index=0, **fields
        )

    # ── ours ───────────────────────────────────────────────────────────────────────────

    def _vita_event(self, notice: Roles | VoiceActivity | Judged | TurnHeld | TurnResumed | TurnRecorded) -> Json:
        match notice:
            case Roles():
                return self._event("vita.roles", **asdict(notice))
            case VoiceActivity(speaking):
                return self._event("vita.speech", speaking=speaking)
            case Judged():
                return self._verdict(notice)
            case TurnHeld(turn):
                return self._event("vita.hold", response_id=f"resp_{turn}", item_id=_reply_item(turn))
            case TurnResumed(turn):
                return self._event("vita.resume", response_id=f"resp_{turn}", item_id=_reply_item(turn))
            case TurnRecorded(record):
                return self._event("vita.timeline", record={**asdict(record), "response_id": f"resp_{record.turn}"})
            case _:
                assert_never(notice)

    def _verdict(self, notice: Judged) -> Json:
        judgement, accepted = notice.judgement, notice.accepted
        words = " ".join(judgement.transcripts) if accepted and judgement else None
        return self._event(
            "vita.verdict",
            utterances=list(notice.utterances),
            item_ids=[_user_item(utterance) for utterance in notice.utterances] if accepted else [],
            state=judgement.state if judgement else None,
            p1=judgement.p1 if judgement else None,
            p2=judgement.p2 if judgement else None,
            p3=judgement.p3 if judgement else None,
            accepted=accepted,
            reason=notice.reason,
            transcript=words,
        )

    # ── frames ─────────────────────────────────────────────────────────────────────────

    def _error(self, kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
        return self._event("error", error=_error(kind, code, message, param, event_id))

    def _event(self, kind: str, **fields: Any) -> Json:
        return {"type": kind, "event_id": f"event_{next(self._numbers)}", **fields}


def refusal(code: str, message: str, retry_after_s: float | None = None) -> Json:
    """The last event of a connection that gets no session."""
    error = _error("server_error", code, message)
    if retry_after_s is not None:
        error["retry_after_s"] = retry_after_s
    return {"type": "error", "event_id": "event_1", "error": error}


def queue_place(position: int, estimate_s: float) -> Json:
    """Before the session: the client's place in the queue, from 1, and seconds until its session begins, perhaps."""
    return {"type": "vita.queue", "event_id": "event_1", "position": position, "estimate_s": estimate_s}


def error_body(code: str, message: str, param: str | None = None) -> Json:
    """Of an HTTP answer."""
    return {"error": {"type": "invalid_request_error", "code": code, "message": message, "param": param}}


def _error(kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
    return {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}


def _user_item(utterance: int) -> str:
    return f"item_user_{utterance}"


def _reply_item(turn: int) -> str:
    return f"item_reply_{turn}"


def turn_of(item_id: str) -> int | None:
    """The turn whose reply an item is; None if it is none."""
    number = item_id.removeprefix("item_reply_")
    return int(number) if number != item_id and number.isascii() and number.isdigit() and len(number) < 10 else None


def _item(item_id: str, role: str, status: str, content: list[Json]) -> Json:
    fields = {"id": item_id, "object": "realtime.item", "type": "message", "role": role}
    return {**fields, "status": status, "content": content}


def _details(notice: TurnEnded) -> Json | None:
    match notice.status:
        case "completed":
            return {"type": "completed"}
        case "cancelled":
            return {"type": "cancelled", "reason": notice.cause}
        case "failed":
            return {"type": "failed", "error": {"type": "server_error", "code": notice.cause}}
