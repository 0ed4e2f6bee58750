"""What the server sends: a session's notices as OpenAI Realtime GA server events, and `vita.*` ones. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, assert_never

from vita_duplex.engine.notices import (
    AsideCalled,
    AsideEnded,
    AsideStarted,
    AsideText,
    Corrected,
    HistoryLeftOut,
    Notice,
    PartTrouble,
    Roles,
    TurnAudio,
    TurnCalled,
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
from vita_duplex.server.audio.formats import AudioFormat
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.event_writer import EventWriter, Frame, item_fields
from vita_duplex.server.realtime.items import Items, Json, Key, response_id
from vita_duplex.server.realtime.response_events import Asked, Response, ResponseEvents

ID_TAIL = 8
"""Characters of a session's id that the ids of its items end with: 32 random bits."""


class ServerEvents:
    """Turns the notices of one session into events, in the order the reference gives.

    `voice_rate` is the rate of the samples in `TurnAudio`. `vita_events`: whether the client asked for events the
    reference does not know; `binary_audio`: whether it wants audio as binary frames (`AUDIO_HEADER`, then samples);
    `plays`: whether it is told when its audio begins and ends.
    """

    def __init__(
        self, session_id: str, *, voice_rate: int, vita_events: bool, binary_audio: bool = False, plays: bool = False
    ) -> None:
        self.items = Items("_" + session_id.removeprefix("sess_")[-ID_TAIL:])
        self.transcribes = True
        """Whether the client wants to know the words of what was said to it."""
        self._session_id = session_id
        self._vita_events = vita_events
        self._writer = EventWriter()
        self._event = self._writer.event
        self.conversation_id = session_id.replace("sess", "conv", 1)
        self._responses = ResponseEvents(
            self._writer, self.items, self.conversation_id, voice_rate, binary_audio=binary_audio, plays=plays
        )

    @property
    def responding(self) -> Response | None:
        """The reply under way, as the client knows it."""
        reply = self._responses.reply
        return reply if reply and not reply.over else None

    @property
    def sounding(self) -> Response | None:
        """The reply that is being heard, even if the client was told of its end."""
        return self._responses.reply

    def end_early(self, notice: TurnEnded) -> Iterator[Frame]:
        """The reply that is being heard is over for the client."""
        return self._responses.end_early(notice)

    @property
    def asked(self) -> dict[int, Asked]:
        """By the number of the utterance or of the aside that a response answers."""
        return self._responses.asked

    def use(self, wire: AudioFormat) -> Iterator[Frame]:
        """Send audio like this from the next sample on."""
        return self._responses.use(wire)

    def translate(self, notice: Notice) -> Iterator[Frame]:
        match notice:
            case UserStarted(utterance, at_ms):
                item_id = self.items.id(("user", utterance))
                yield self._event("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=at_ms)
            case UserStopped(utterance, at_ms):
                item_id = self.items.id(("user", utterance))
                yield self._event("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=at_ms)
            case UtteranceAccepted():
                yield from self._accepted(notice)
            case UtteranceCommitted(utterance):
                yield from self.committed(utterance)
            case WordsKnown(utterance, transcript, seconds):
                if self.transcribes:
                    yield from self._words(("user", utterance), transcript, seconds)
            case WordsFailed(utterance, message):
                if self.transcribes:
                    yield self._event(
                        "conversation.item.input_audio_transcription.failed",
                        item_id=self.items.id(("user", utterance)),
                        content_index=0,
                        error={"type": "server_error", "code": "asr_failed", "message": message, "param": None},
                    )
            case TurnEnded(turn, "cancelled" | "failed", _, heard) if self._vita_events:
                yield self._of_reply("vita.heard", turn, transcript=heard)
                yield from self._responses.translate(notice)
            case TurnStarted() | TurnAudio() | TurnCalled() | TurnEnded():
                yield from self._responses.translate(notice)
            case AsideStarted() | AsideText() | AsideCalled() | AsideEnded():
                yield from self._responses.translate(notice)
            case PartTrouble(part, message):
                yield self.server_error(f"{part}_failed".replace(" ", "_"), message)
            case HistoryLeftOut(turn, messages):
                if self._vita_events:
                    yield self._of_reply("vita.truncated", turn, messages=messages)
            case Roles() | VoiceActivity() | VerdictGiven() | TurnHeld() | TurnResumed() | TurnRecorded():
                if self._vita_events:
                    yield self._vita_event(notice)
            case Corrected():
                pass  # the client said it
            case _:
                assert_never(notice)

    def session(self, kind: str, fields: Json, own: Json, **more: Any) -> Frame:
        """What is in effect; `own` is what the reference does not know."""
        if self._vita_events:
            fields = {**fields, "vita": own}
        session = {"id": self._session_id, "object": "realtime.session", **fields}
        series = "resumed" if kind == "session.resumed" else "event"
        return self._event(kind, series, session=session, **more)

    # ── the client's events ────────────────────────────────────────────────────────────

    def cleared(self) -> Frame:
        return self._event("input_audio_buffer.cleared")

    def committed(self, utterance: int) -> Iterator[Frame]:
        """A recording, or detected speech, became an item. Its words come later, for clients take both as said."""
        item_id = self.items.id(("user", utterance))
        yield self._event("input_audio_buffer.committed", item_id=item_id, previous_item_id=self.items.last_id)
        content = [{"type": "input_audio", "transcript": None}]
        item = item_fields(item_id, "user", "completed", content)
        yield from self._item_added(("user", utterance), item, self.items.last)

    def truncated(self, item_id: str, audio_end_ms: int) -> Frame:
        return self._event("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)

    def created(
        self, key: Key, fields: Callable[[str], Json], item_id: str | None, before: Key | None
    ) -> Iterator[Frame]:
        """An item of the client's, whose fields are made with its id, entered the conversation, behind another one."""
        if item_id:
            self.items.rename(key, item_id)
        yield from self._item_added(key, fields(self.items.id(key)), before)

    def next_call(self) -> Key:
        return self._responses.next_call()

    def retrieved(self, item: Json) -> Frame:
        return self._event("conversation.item.retrieved", item=item)

    def deleted(self, key: Key) -> Frame:
        item_id = self.items.id(key)
        self.items.remove(key)
        return self._event("conversation.item.deleted", item_id=item_id)

    def output_cleared(self, response: Response) -> Frame:
        return self._event("output_audio_buffer.cleared", response_id=response.id)

    def own(self, kind: str, **fields: Any) -> Frame:
        """An event that the reference does not know."""
        return self._event(kind, **fields)

    def key_pressed(self, digit: str, at: float) -> Frame:
        """`at`: seconds since 1970."""
        return self._event("input_audio_buffer.dtmf_event_received", event=digit, received_at=int(at))

    def heartbeat(self, patience_s: float) -> Frame:
        """The answer to the client's own. `patience_s`: until when something must have come from it again."""
        return self._event("session.heartbeat", timeout_s=patience_s)

    def timed_out(self, utterance: int, start_ms: int, end_ms: int) -> Iterator[Frame]:
        """Nobody has spoken between these moments of the received audio, which now are an item of their own."""
        item_id = self.items.id(("user", utterance))
        yield self._event(
            "input_audio_buffer.timeout_triggered", item_id=item_id, audio_start_ms=start_ms, audio_end_ms=end_ms
        )
        yield from self.committed(utterance)

    def client_error(self, error: ClientError) -> Frame:
        return self._writer.error("invalid_request_error", error.code, error.message, error.param, error.event_id)

    def server_error(self, code: str, message: str) -> Frame:
        return self._writer.error("server_error", code, message)

    def shed(self, key: Key, shown: int, sent: int) -> Iterator[Frame]:
        """The model is not shown all images of a message. The reference has no event for that."""
        if self._vita_events:
            yield self._event("vita.shed", item_id=self.items.id(key), frames_shown=shown, frames_sent=sent)

    def draining(self, seconds_left: float) -> Frame:
        """The server is stopping. The reference has no event for that; clients that know only it get an error."""
        if self._vita_events:
            return self._event("vita.draining", seconds_left=round(seconds_left, 1))
        message = f"The server is stopping: a running reply has {seconds_left:.0f} s to finish, then the session ends."
        return self.server_error("server_draining", message)

    # ── the user's items ───────────────────────────────────────────────────────────────

    def _accepted(self, notice: UtteranceAccepted) -> Iterator[Frame]:
        if notice.seconds is None:
            return  # typed or committed: its item was added when it came in
        yield from self.committed(notice.utterance)
        if self.transcribes and notice.transcript is not None:
            yield from self._words(("user", notice.utterance), notice.transcript, notice.seconds)

    def _words(self, key: Key, transcript: str, seconds: float) -> Iterator[Frame]:
        if (item := self.items.get(key)) is None:
            return  # deleted meanwhile
        self.items.put(key, {**item, "content": [{"type": "input_audio", "transcript": transcript}]})
        yield self._event(
            "conversation.item.input_audio_transcription.completed",
            item_id=self.items.id(key),
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": round(seconds, 3)},
        )

    def _item_added(self, key: Key, item: Json, before: Key | None) -> Iterator[Frame]:
        previous, at_end = before and self.items.id(before), before == self.items.last
        self.items.put(key, item)
        if not at_end:
            self.items.move(key, before)
        yield self._event("conversation.item.added", item=item, previous_item_id=previous)
        yield self._event("conversation.item.done", item=item, previous_item_id=previous)

    # ── ours ───────────────────────────────────────────────────────────────────────────

    def _vita_event(
        self, notice: Roles | VoiceActivity | VerdictGiven | TurnHeld | TurnResumed | TurnRecorded
    ) -> Frame:
        match notice:
            case Roles():
                return self._event("vita.roles", **asdict(notice))
            case VoiceActivity(speaking):
                return self._event("vita.speech", speaking=speaking)
            case VerdictGiven():
                return self._verdict(notice)
            case TurnHeld(turn):
                return self._of_reply("vita.hold", turn)
            case TurnResumed(turn):
                return self._of_reply("vita.resume", turn)
            case TurnRecorded(record):
                fields = {**asdict(record), "response_id": response_id(("reply", record.turn))}
                return self._event("vita.timeline", record=fields)
            case _:
                assert_never(notice)

    def _of_reply(self, kind: str, turn: int, **more: Any) -> Frame:
        key: Key = ("reply", turn)
        return self._event(kind, response_id=response_id(key), item_id=self.items.id(key), **more)

    def _verdict(self, notice: VerdictGiven) -> Frame:
        verdict, accepted = notice.verdict, notice.accepted
        words = " ".join(verdict.transcripts) if accepted and verdict else None
        return self._event(
            "vita.verdict",
            utterances=list(notice.utterances),
            item_ids=[self.items.id(("user", utterance)) for utterance in notice.utterances] if accepted else [],
            state=verdict.state if verdict else None,
            p1=verdict.p1 if verdict else None,
            p2=verdict.p2 if verdict else None,
            p3=verdict.p3 if verdict else None,
            accepted=accepted,
            reason=notice.reason,
            transcript=words,
        )
