"""One conversation of `/v1/verdict`: a session whose replies are the application's.

The session is the same as that of `/v1/realtime`, with its core, listener, monitor and settings. Of a request only the
verdict is used, and the words of a reply come from the application.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from vita_duplex.engine.notices import (
    Notice,
    PartTrouble,
    TurnEnded,
    TurnHeld,
    TurnResumed,
    TurnStarted,
    VerdictGiven,
    VoiceActivity,
    WordsFailed,
    WordsKnown,
)
from vita_duplex.engine.settings import ReplySettings
from vita_duplex.server.errors import ClientError
from vita_duplex.server.parts import Parts
from vita_duplex.server.realtime.client_events import ClientEvent, SessionUpdate, SessionUpdateFields
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.event_writer import Frame
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.terms import Terms
from vita_duplex.server.realtime.transport import ClientKind
from vita_duplex.server.verdict.client_events import ReplyEnded, ReplyStarted, ReplyText, VerdictClientEvent, decode
from vita_duplex.server.verdict.replies import TheirReplies

KEPT = {"instructions", "audio", "vita", "type"}
"""Of `session.update`: what a verdict depends on."""


class VerdictConversation(Conversation):
    """Understands the events of an application, and tells it what to do with its replies."""

    def __init__(self, parts: Parts, model: str, events: ServerEvents, terms: Terms, send: Callable[[Frame], None],
                 note: Callable[[Notice], None], kind: ClientKind) -> None:  # fmt: skip
        super().__init__(parts, model, events, terms, send, note, kind)
        self._replies = TheirReplies()
        self.settings = replace(self.settings, spoken=False, max_output_tokens=0, echo_guard=False)
        self._listener.guard(None)  # what the application plays is not known here

    async def begin(self, wanted: SessionUpdateFields | None) -> ClientError | None:
        await self._configure()
        return await super().begin(wanted)

    def decode(self, frame: str) -> VerdictClientEvent:  # type: ignore[override]
        return decode(frame)

    async def take(self, event: ClientEvent | VerdictClientEvent) -> None:
        """Errors: `ClientError`."""
        match event:
            case ReplyStarted(event_id=event_id, reply_id=reply_id, text=text):
                reply = self._replies.start(reply_id, next(self._numbers))
                if text:
                    self._replies.say(text, event_id)
                told = ReplySettings(spoken=False, told=reply.words)
                await self.session.ask(reply.utterance, "", told)
            case ReplyText(event_id=event_id, delta=delta):
                self._replies.say(delta, event_id)
            case ReplyEnded(event_id=event_id, reply_id=reply_id):
                self._replies.finish(reply_id, event_id)
            case _:
                await super().take(event)

    async def update(self, event: SessionUpdate) -> ClientError | None:
        """What concerns only replies is not looked at. Errors: `ClientError`."""
        fields = event.session
        heard = fields.audio.input if fields.audio else None
        if heard and "turn_detection" in heard.model_fields_set:
            wanted = heard.turn_detection
            if wanted is None or wanted.create_response is False or wanted.interrupt_response is False:
                self._refuse("Without turn detection there is nothing to judge.", "audio.input.turn_detection", event)
        if fields.vita and fields.vita.echo_guard is True:
            self._refuse("What the application plays is not known here.", "vita.echo_guard", event)
        given = fields.model_dump(exclude_unset=True, include=KEPT)
        return await super().update(event.model_copy(update={"session": SessionUpdateFields.model_validate(given)}))

    def _refuse(self, message: str, param: str, event: SessionUpdate) -> None:
        raise ClientError("unsupported_value", message, param=f"session.{param}", event_id=event.event_id)

    def _events_of(self, notice: Notice) -> Iterable[Frame]:
        """What the application is told; of its own replies it knows."""
        reply = self._replies.reply
        match notice:
            case TurnStarted(turn, answers):
                if reply and reply.utterance == answers:
                    reply.turn = turn
                return []
            case TurnHeld(turn) | TurnResumed(turn):
                kind = "vita.hold" if isinstance(notice, TurnHeld) else "vita.resume"
                return [self.events.own(kind, reply_id=reply.reply_id)] if reply and reply.turn == turn else []
            case TurnEnded(turn, "cancelled"):
                stopped = self._replies.stop(turn)
                return [self.events.own("vita.stop", reply_id=stopped.reply_id)] if stopped else []
            case VoiceActivity() | VerdictGiven() | WordsKnown() | WordsFailed() | PartTrouble():
                return super()._events_of(notice)
            case _:
                return []
