"""What the server sends: a session's notices as OpenAI Realtime GA server events, and `vita.*` ones. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

import base64
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, assert_never

import numpy as np

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.joining import joined, separator
from vita_duplex.engine.messages import Usage
from vita_duplex.engine.notices import (
    AsideEnded,
    AsideStarted,
    AsideText,
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
    UtteranceCommitted,
    VerdictGiven,
    VoiceActivity,
    WordsFailed,
    WordsKnown,
)
from vita_duplex.server.audio.formats import DEFAULT, AudioFormat
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.items import Items, Json, Place

Frame = Json | bytes
"""A text frame to be written as JSON, or a binary one."""
AUDIO_HEADER = struct.Struct("<II")
"""Of a binary frame: the number in the response's id, and the event's own, as in `event_id`."""
_SILENCE: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client said about the response it asked for."""

    metadata: dict[str, str] | None = None
    max_output_tokens: int | str | None = None


@dataclass(slots=True)
class Response:
    """The reply under way, or one beside the conversation."""

    id: str
    item_id: str
    turn: int
    spoken: bool
    wire: AudioFormat
    resampler: Resampler
    previous_item: str | None
    conversation: str | None
    asked: Asked = Asked()
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return joined(self.texts) if self.spoken else "".join(self.texts)


class ServerEvents:
    """Turns the notices of one session into events, in the order the reference gives.

    `voice_rate` is the rate of the samples in `TurnAudio`. `vita_events`: whether the client asked for events the
    reference does not know; `binary_audio`: whether it wants audio as binary frames (`AUDIO_HEADER`, then samples).
    """

    def __init__(self, session_id: str, *, voice_rate: int, vita_events: bool, binary_audio: bool = False) -> None:
        self.items = Items()
        self.asked: dict[int, Asked] = {}
        """By the utterance, or the number of the aside, that a response answers."""
        self.transcribes = True
        """Whether the client wants to know the words of what was said to it."""
        self._wire = DEFAULT
        self._session_id = session_id
        self._conversation_id = session_id.replace("sess", "conv", 1)
        self._voice_rate = voice_rate
        self._vita_events = vita_events
        self._binary_audio = binary_audio
        self._numbers = count(1)
        self._response: Response | None = None
        self._asides: dict[int, Response] = {}

    @property
    def responding(self) -> Response | None:
        """The reply under way."""
        return self._response

    def translate(self, notice: Notice) -> Iterator[Frame]:
        match notice:
            case UserStarted(utterance, at_ms):
                yield self._event(
                    "input_audio_buffer.speech_started",
                    item_id=self.items.name(("said", utterance)),
                    audio_start_ms=at_ms,
                )
            case UserStopped(utterance, at_ms):
                yield self._event(
                    "input_audio_buffer.speech_stopped",
                    item_id=self.items.name(("said", utterance)),
                    audio_end_ms=at_ms,
                )
            case UtteranceAccepted():
                yield from self._accepted(notice)
            case UtteranceCommitted(utterance):
                yield from self._committed(utterance, {"type": "input_audio", "transcript": None})
            case WordsKnown(utterance, transcript, seconds):
                if self.transcribes:
                    yield self._words(self.items.name(("said", utterance)), transcript, seconds)
            case WordsFailed(utterance, message):
                if self.transcribes:
                    yield self._event(
                        "conversation.item.input_audio_transcription.failed",
                        item_id=self.items.name(("said", utterance)),
                        content_index=0,
                        error={"type": "server_error", "code": "asr_failed", "message": message, "param": None},
                    )
            case TurnStarted():
                self._response = self._turn_response(notice)
                yield from self._response_started(self._response)
            case TurnAudio(turn, samples, text):
                if self._response and turn == self._response.turn:
                    yield from self._more(self._response, samples, text)
            case TurnEnded():
                if self._response and notice.turn == self._response.turn:
                    response, self._response = self._response, None
                    yield from self._response_ended(response, notice)
            case AsideStarted(number):
                self._asides[number] = self._aside_response(number)
                yield from self._response_started(self._asides[number])
            case AsideText(number, delta):
                yield from self._more(self._asides[number], _SILENCE, delta)
            case AsideEnded(number):
                yield from self._response_ended(self._asides.pop(number), notice)
            case PartTrouble(part, message):
                yield self._error("server_error", f"{part}_failed".replace(" ", "_"), message)
            case Roles() | VoiceActivity() | VerdictGiven() | TurnHeld() | TurnResumed() | TurnRecorded():
                if self._vita_events:
                    yield self._vita_event(notice)
            case _:
                assert_never(notice)

    def use(self, wire: AudioFormat) -> Iterator[Frame]:
        """Send audio like this from the next sample on. Of a reply under way: what the old resampler kept back."""
        self._wire = wire
        if (response := self._response) is not None:
            yield from self._audio_delta(response, response.resampler.finish())
            response.wire, response.resampler = wire, Resampler(self._voice_rate, wire.rate)

    def session(self, kind: str, fields: Json, own: Json, **more: Any) -> Json:
        """`session.created` or `session.updated` with what is in effect; `own` is what the reference does not know."""
        if self._vita_events:
            fields = {**fields, "vita": own}
        return self._event(kind, session={"id": self._session_id, "object": "realtime.session", **fields}, **more)

    def cleared(self) -> Json:
        return self._event("input_audio_buffer.cleared")

    def committed(self, utterance: int) -> Iterator[Json]:
        """What a client recorded and committed."""
        yield from self._committed(utterance, {"type": "input_audio", "transcript": None})

    def truncated(self, item_id: str, audio_end_ms: int) -> Json:
        return self._event("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)

    def created(self, place: Place, role: str, content: list[Json], item_id: str | None) -> Iterator[Json]:
        """An item of the client's entered the conversation."""
        if item_id:
            self.items.rename(place, item_id)
        yield from self._item_added(self.items.name(place), role, content)

    def retrieved(self, item: Json) -> Json:
        return self._event("conversation.item.retrieved", item=item)

    def deleted(self, item_id: str) -> Json:
        self.items.remove(item_id)
        return self._event("conversation.item.deleted", item_id=item_id)

    def output_cleared(self, response: Response) -> Json:
        return self._event("output_audio_buffer.cleared", response_id=response.id)

    def heartbeat(self, patience_s: float) -> Json:
        """The answer to the client's own. `patience_s`: until when something must have come from it again."""
        return self._event("session.heartbeat", timeout_s=patience_s)

    def timed_out(self, utterance: int, start_ms: int, end_ms: int) -> Iterator[Json]:
        """Nobody has spoken between these moments of the received audio, which now are an item of their own."""
        item_id = self.items.name(("said", utterance))
        yield self._event(
            "input_audio_buffer.timeout_triggered", item_id=item_id, audio_start_ms=start_ms, audio_end_ms=end_ms
        )
        yield from self.committed(utterance)

    def client_error(self, error: ClientError) -> Json:
        return self._error("invalid_request_error", error.code, error.message, error.param, error.event_id)

    def server_error(self, code: str, message: str) -> Json:
        return self._error("server_error", code, message)

    def shed(self, place: Place, shown: int, sent: int) -> Iterator[Json]:
        """Of the pictures in a message not all are shown to the model; the reference has no event for that."""
        if self._vita_events:
            yield self._event("vita.shed", item_id=self.items.name(place), frames_shown=shown, frames_sent=sent)

    def draining(self, seconds_left: float) -> Json:
        """The server is stopping. The reference has no event for that; clients that know only it get an error."""
        if self._vita_events:
            return self._event("vita.draining", seconds_left=round(seconds_left, 1))
        message = f"The server is stopping: a running reply has {seconds_left:.0f} s to finish, then the session ends."
        return self.server_error("server_draining", message)

    # ── the user's side ────────────────────────────────────────────────────────────────

    def _accepted(self, notice: UtteranceAccepted) -> Iterator[Json]:
        if notice.seconds is None:
            return  # typed or committed: its item was added when it came in
        transcript = notice.transcript if self.transcribes else None
        yield from self._committed(notice.utterance, {"type": "input_audio", "transcript": transcript})
        if transcript is not None:
            yield self._words(self.items.name(("said", notice.utterance)), transcript, notice.seconds)

    def _committed(self, utterance: int, content: Json) -> Iterator[Json]:
        item_id = self.items.name(("said", utterance))
        yield self._event("input_audio_buffer.committed", item_id=item_id, previous_item_id=self.items.last)
        yield from self._item_added(item_id, "user", [content])

    def _words(self, item_id: str, transcript: str, seconds: float) -> Json:
        item = self.items.get(item_id)
        if item is not None:
            self.items.put({**item, "content": [{"type": "input_audio", "transcript": transcript}]})
        return self._event(
            "conversation.item.input_audio_transcription.completed",
            item_id=item_id,
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": round(seconds, 3)},
        )

    def _item_added(self, item_id: str, role: str, content: list[Json]) -> Iterator[Json]:
        item = _item(item_id, role, "completed", content)
        previous, self.items.last = self.items.last, item_id
        self.items.put(item)
        yield self._event("conversation.item.added", item=item, previous_item_id=previous)
        yield self._event("conversation.item.done", item=item, previous_item_id=previous)

    # ── the reply ──────────────────────────────────────────────────────────────────────

    def _turn_response(self, notice: TurnStarted) -> Response:
        return Response(
            f"resp_{notice.turn}",
            self.items.name(("reply", notice.turn)),
            notice.turn,
            notice.spoken,
            self._wire,
            Resampler(self._voice_rate, self._wire.rate),
            self.items.last,
            self._conversation_id,
            self.asked.pop(notice.answers, Asked()),
        )

    def _aside_response(self, number: int) -> Response:
        return Response(
            f"resp_aside_{number}",
            self.items.name(("aside", number)),
            number,
            False,
            self._wire,
            Resampler(self._voice_rate, self._wire.rate),
            None,
            None,
            self.asked.pop(number, Asked()),
        )

    def _response_started(self, response: Response) -> Iterator[Json]:
        yield self._event("response.created", response=self._resource(response, "in_progress", None, [], None))
        yield self._event("rate_limits.updated", rate_limits=[])
        item = _item(response.item_id, "assistant", "in_progress", [])
        yield self._event("response.output_item.added", response_id=response.id, output_index=0, item=item)
        if response.conversation:
            self.items.last = response.item_id
            self.items.put(item)
            yield self._event("conversation.item.added", item=item, previous_item_id=response.previous_item)
        part = {"type": "audio", "transcript": ""} if response.spoken else {"type": "text", "text": ""}
        yield self._content("response.content_part.added", response, part=part)

    def _more(self, response: Response, samples: Samples, text: str | None) -> Iterator[Frame]:
        if text is not None:
            before = response.texts[-1] if response.texts else ""
            delta = separator(before, text) + text if response.spoken else text
            response.texts.append(text)
            kind = "response.output_audio_transcript.delta" if response.spoken else "response.output_text.delta"
            yield self._content(kind, response, delta=delta)
        yield from self._audio_delta(response, response.resampler.push(samples))

    def _audio_delta(self, response: Response, samples: Samples) -> Iterator[Frame]:
        if not len(samples):
            return
        data = response.wire.encode(samples)
        if self._binary_audio:
            yield AUDIO_HEADER.pack(response.turn, next(self._numbers)) + data
        else:
            yield self._content("response.output_audio.delta", response, delta=base64.b64encode(data).decode())

    def _response_ended(self, response: Response, notice: TurnEnded | AsideEnded) -> Iterator[Frame]:
        completed = notice.status in ("completed", "incomplete")
        if notice.status != "cancelled":
            yield from self._audio_delta(response, response.resampler.finish())
        # Of a reply that was cut, only what was heard: the client shows what the dialogue holds.
        text = response.text if completed or isinstance(notice, AsideEnded) else notice.heard
        if response.spoken:
            yield self._content("response.output_audio.done", response)
            yield self._content("response.output_audio_transcript.done", response, transcript=text)
            part, content = {"type": "audio", "transcript": text}, {"type": "output_audio", "transcript": text}
        else:
            yield self._content("response.output_text.done", response, text=text)
            part, content = {"type": "text", "text": text}, {"type": "output_text", "text": text}
        yield self._content("response.content_part.done", response, part=part)
        item = _item(
            response.item_id, "assistant", "completed" if notice.status == "completed" else "incomplete", [content]
        )
        yield self._event("response.output_item.done", response_id=response.id, output_index=0, item=item)
        if response.conversation:
            if self.items.get(response.item_id):  # not deleted meanwhile
                self.items.put(item)
            yield self._event("conversation.item.done", item=item, previous_item_id=response.previous_item)
        yield self._event(
            "response.done",
            response=self._resource(response, notice.status, _details(notice), [item], notice.usage),
        )

    def _resource(
        self, response: Response, status: str, details: Json | None, output: list[Json], usage: Usage | None
    ) -> Json:
        return {
            "id": response.id,
            "object": "realtime.response",
            "conversation_id": response.conversation,
            "status": status,
            "status_details": details,
            "output": output,
            "output_modalities": ["audio" if response.spoken else "text"],
            "max_output_tokens": response.asked.max_output_tokens or "inf",
            "metadata": response.asked.metadata,
            "usage": _usage(usage),
        }

    def _content(self, kind: str, response: Response, **fields: Any) -> Json:
        return self._event(
            kind, response_id=response.id, item_id=response.item_id, output_index=0, content_index=0, **fields
        )

    # ── ours ───────────────────────────────────────────────────────────────────────────

    def _vita_event(self, notice: Roles | VoiceActivity | VerdictGiven | TurnHeld | TurnResumed | TurnRecorded) -> Json:
        match notice:
            case Roles():
                return self._event("vita.roles", **asdict(notice))
            case VoiceActivity(speaking):
                return self._event("vita.speech", speaking=speaking)
            case VerdictGiven():
                return self._verdict(notice)
            case TurnHeld(turn):
                return self._event("vita.hold", response_id=f"resp_{turn}", item_id=self.items.name(("reply", turn)))
            case TurnResumed(turn):
                return self._event("vita.resume", response_id=f"resp_{turn}", item_id=self.items.name(("reply", turn)))
            case TurnRecorded(record):
                return self._event("vita.timeline", record={**asdict(record), "response_id": f"resp_{record.turn}"})
            case _:
                assert_never(notice)

    def _verdict(self, notice: VerdictGiven) -> Json:
        verdict, accepted = notice.verdict, notice.accepted
        words = " ".join(verdict.transcripts) if accepted and verdict else None
        return self._event(
            "vita.verdict",
            utterances=list(notice.utterances),
            item_ids=[self.items.name(("said", utterance)) for utterance in notice.utterances] if accepted else [],
            state=verdict.state if verdict else None,
            p1=verdict.p1 if verdict else None,
            p2=verdict.p2 if verdict else None,
            p3=verdict.p3 if verdict else None,
            accepted=accepted,
            reason=notice.reason,
            transcript=words,
        )

    # ── frames ─────────────────────────────────────────────────────────────────────────

    def _error(self, kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
        return self._event("error", error=_error(kind, code, message, param, event_id))

    def _event(self, kind: str, **fields: Any) -> Json:
        return {"type": kind, "event_id": f"event_{next(self._numbers)}", **fields}


def number_of(frame: Frame) -> int:
    """The place of an event among all of its session."""
    if isinstance(frame, bytes):
        return int(AUDIO_HEADER.unpack_from(frame)[1])
    return int(frame["event_id"].removeprefix("event_"))


def refusal(code: str, message: str, retry_after_s: float | None = None) -> Json:
    """The last event of a connection that gets no session."""
    error = _error("server_error", code, message)
    if retry_after_s is not None:
        error["retry_after_s"] = retry_after_s
    return {"type": "error", "event_id": "event_1", "error": error}


def queue_place(position: int, estimate_s: float) -> Json:
    """Before the session: the client's place in the queue, from 1, and seconds until its session begins, perhaps."""
    return {"type": "vita.queue", "event_id": "event_1", "position": position, "estimate_s": estimate_s}


def _error(kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
    return {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}


def _item(item_id: str, role: str, status: str, content: list[Json]) -> Json:
    fields = {"id": item_id, "object": "realtime.item", "type": "message", "role": role}
    return {**fields, "status": status, "content": content}


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    total = usage.input_tokens + usage.output_tokens
    return {"total_tokens": total, "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}


def _details(notice: TurnEnded | AsideEnded) -> Json | None:
    match notice.status:
        case "completed":
            return {"type": "completed"}
        case "cancelled":
            return {"type": "cancelled", "reason": notice.cause}
        case "incomplete":
            return {"type": "incomplete", "reason": notice.cause}
        case "failed":
            return {"type": "failed", "error": {"type": "server_error", "code": notice.cause}}
