"""One conversation on the wire: the client's events go into a session, its notices come out as events.

It outlives its connections: where its events go and where they come from is the gateway's business.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Literal, assert_never

from vita_duplex.engine.notices import Notice
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.session import Session
from vita_duplex.engine.settings import Configure
from vita_duplex.server.errors import ClientError, Refusal
from vita_duplex.server.parts import Parts
from vita_duplex.server.realtime.client_events import (
    AudioAppend,
    AudioClear,
    AudioCommit,
    ClientEvent,
    Heartbeat,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    OutputClear,
    OutputItem,
    PlaybackAck,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    SessionUpdateFields,
    UserItem,
    UtteranceAccept,
    UtteranceReject,
    decode,
)
from vita_duplex.server.realtime.conversation_items import ConversationItems
from vita_duplex.server.realtime.event_writer import Frame
from vita_duplex.server.realtime.microphone import Microphone
from vita_duplex.server.realtime.presence import HEARTBEAT_S
from vita_duplex.server.realtime.responses import Responses
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.session_settings import SessionSettings, find_unsupported
from vita_duplex.server.realtime.terms import Terms
from vita_duplex.server.realtime.transport import ClientKind
from vita_duplex.vad.echo import EchoGuard

NO_ASR = Refusal("transcription_not_supported", "The models here hear speech themselves; set asr.kind for transcripts.")


class Conversation:
    """Understands the events of a client; `send` takes the events for it, and `note` each notice before its events."""

    def __init__(self, parts: Parts, model: str, events: ServerEvents, terms: Terms, send: Callable[[Frame], None],
                 note: Callable[[Notice], None], kind: ClientKind) -> None:  # fmt: skip
        self.events = events
        self._parts = parts
        self._model = model
        self._terms = terms
        self._send_one = send
        self._kind = kind
        self._note = note
        duplex = parts.config.deciding
        voices = parts.voice_names
        self._server_settings = self.settings = self._carried(
            SessionSettings(
                parts.config.vad.endpoint,
                duplex,
                voices,
                voices.default,
                parts.config.vad.echo.guard,
                can_call=parts.can_call(model),
            )
        )
        self._send(*events.use(self.settings.wire_out))
        self._numbers = numbers = count(1)  # of utterances, spoken and typed, and of whatever else a client adds
        self._listener = parts.listener(numbers, client_pauses=kind.pauses)
        if not self.settings.echo_guard:
            self._listener.guard(None)
        logs = parts.session_logs
        self._log = logs.open(terms.session_id, duplex, parts.voice.rate) if logs else None
        self._pool = parts.pools[model]
        self._seat = self._pool.seat()
        self.session = Session(
            duplex,
            self._seat,
            self._listener,
            lambda voice: parts.speech(voice, client_pauses=kind.pauses),
            self,
            self._log.step if self._log else None,
            parts.asr,
            parts.transcriber,
        )
        self._items = ConversationItems(
            self.session, events, numbers, terms, parts.voice.rate, self._send, self._configure, sees=self._sees
        )
        self._microphone = Microphone(self.session, events, numbers, self.settings, terms.audio, self._send)
        self._responses = Responses(self.session, events, self._items, numbers, self._send)

    def leave(self) -> None:
        """Give the seat back; the conversation is over."""
        self._pool.leave(self._seat)

    def tell(self, notice: Notice) -> None:
        """Take the session's notice to the client."""
        self._terms.watch.see(notice)
        self._note(notice)
        self._microphone.note(notice)
        self._responses.note(notice)
        if self._log:
            self._log.note(notice)
        self._send(*self._events_of(self._microphone.place(notice)))

    def _events_of(self, notice: Notice) -> Iterable[Frame]:
        return self.events.translate(notice)

    async def begin(self, wanted: SessionUpdateFields | None) -> ClientError | None:
        """Begin with the settings that came with the key, if any did; return what is wrong with them."""
        if wanted is None:
            return None
        try:
            return await self.update(SessionUpdate(type="session.update", session=wanted))
        except ClientError as error:
            return error

    def decode(self, frame: str) -> ClientEvent:
        """Errors: `ClientError`."""
        return decode(frame)

    def describe(self, kind: str, **more: object) -> Frame:
        """`session.created`, `session.updated` or `session.resumed`."""
        return self.events.session(kind, self.settings.describe(self._model), self.settings.describe_own(), **more)

    async def hear(self, data: bytes) -> None:
        """Take in a binary frame: audio in the session's input format. Errors: `ClientError`."""
        await self._microphone.append(data)

    async def take(self, event: ClientEvent) -> None:
        """Errors: `ClientError`."""
        if self.settings.only_listens and isinstance(event, ItemCreate | ResponseCreate):
            message = "This session writes down what is said, and answers nothing."
            raise ClientError("transcription_session", message, param="type", event_id=event.event_id)
        match event:
            case SessionUpdate():
                unsupported = await self.update(event)
                self._send(self.describe("session.updated"))
                if unsupported:
                    self._send(self.events.client_error(unsupported))
            case AudioAppend(event_id=event_id, audio=audio):
                await self._microphone.append(audio, event_id)
            case AudioCommit(event_id=event_id):
                await self._microphone.commit(event_id)
            case AudioClear():
                self._microphone.clear()
            case ItemCreate():
                await self._items.create(event, self.settings)
                says = isinstance(event.item, UserItem) and event.item.text
                if event.previous_item_id is None and (says or isinstance(event.item, OutputItem)):
                    self._responses.typed()
            case ItemRetrieve():
                self._items.retrieve(event)
            case ItemDelete():
                await self._items.delete(event)
            case ItemTruncate():
                await self._items.truncate(event)
            case PlaybackAck():
                self._items.acknowledge(event)
            case ResponseCreate():
                await self._responses.create(event, self.settings)
            case ResponseCancel():
                await self._responses.cancel(event)
            case OutputClear():
                await self._responses.clear_output()
            case UtteranceAccept(event_id=event_id, utterance=number):
                if not await self.session.claim(number):
                    raise _gone(number, event_id)
            case UtteranceReject(event_id=event_id, utterance=number):
                await self._disclaim(number, event_id)
            case Heartbeat():
                self._send(self.events.heartbeat(HEARTBEAT_S))
            case _:
                assert_never(event)

    async def _disclaim(self, number: int, event_id: str | None) -> None:
        """Errors: `ClientError`."""
        found = await self.session.disclaim(number)
        if found is None:
            raise _gone(number, event_id)
        numbers, turn = found
        self._items.forget([*(("user", one) for one in numbers), ("reply", turn)])

    async def update(self, event: SessionUpdate) -> ClientError | None:
        """Change all the settings of an event, or none. Returned is what cannot be done for any session here.

        Errors: `ClientError`.
        """
        if event.session.type == "transcription" and self._parts.transcriber is None:
            raise ClientError(NO_ASR.code, NO_ASR.message, param="session.type", event_id=event.event_id)
        old = self.settings
        new = self._carried(old.updated(event.session, self._server_settings, event.event_id))
        if new.echo_guard != old.echo_guard:
            self._listener.guard(self._open_echo_guard(new.echo_guard, event.event_id))
        self.settings = new
        if new.wire_out != old.wire_out:
            self._send(*self.events.use(new.wire_out))
        if new.listening != old.listening:
            self._listener.configure(new.listening)
        self._microphone.configure(new)
        self.events.transcribes = new.only_listens or new.transcription is not None
        await self._configure()
        return find_unsupported(event.session, "session", event.event_id, can_call=self.settings.can_call)

    def _carried(self, settings: SessionSettings) -> SessionSettings:
        """With the formats that the transport carries, whatever the client wants."""
        kind = self._kind
        if kind.plays and settings.echo_guard == "auto":  # a browser cancels the echo of what it plays
            settings = replace(settings, echo_guard=False)
        return replace(settings, wire_in=kind.wire_in or settings.wire_in, wire_out=kind.wire_out or settings.wire_out)

    def _open_echo_guard(self, wanted: bool | Literal["auto"], event_id: str | None) -> EchoGuard | None:
        try:
            return self._parts.echo_guard(wanted, client_pauses=self._kind.pauses)
        except PartFailed as failure:
            param = "session.vita.echo_guard"
            raise ClientError("unsupported_value", failure.message, param=param, event_id=event_id) from failure

    async def _configure(self) -> None:
        """Give the session all settings anew."""
        settings = self.settings
        await self.session.configure(
            Configure(
                replace(settings.reply, instructions=self._items.add_instructions(settings.instructions)),
                self._items.images,
                settings.answers_speech,
                settings.only_listens,
                settings.only_listens or settings.transcription is not None,
                settings.language,
                replace(settings.duplex.decisions, barge_in=settings.barge_in),
            )
        )

    def _sees(self) -> bool:
        return any(instance.sees for instance in self._seat.slots)

    def _send(self, *frames: Frame) -> None:
        for frame in frames:
            self._send_one(frame)


def _gone(number: int, event_id: str | None) -> ClientError:
    message = f"Utterance {number} cannot be corrected: only the last that was left alone or answered can, for 20 s."
    return ClientError("utterance_gone", message, param="utterance", event_id=event_id)
