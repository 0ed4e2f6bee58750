"""One conversation on the wire: the client's events go into a session, what it does comes out as events.

It outlives its connections: where its events go and where they come from is the gateway's business.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import assert_never

import numpy as np

from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.events import SettingsChanged
from vita_duplex.engine.messages import AssistantMessage, Message, Pixels, Query, UserMessage, Utterance
from vita_duplex.engine.notices import Notice
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.session import NothingToAnswer, Session
from vita_duplex.engine.settings import Configure, ReplySettings
from vita_duplex.server.access.shedding import shown
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.errors import ClientError
from vita_duplex.server.parts import Parts
from vita_duplex.server.realtime import server_events
from vita_duplex.server.realtime.client_events import (
    AssistantItem,
    AudioAppend,
    AudioClear,
    AudioCommit,
    ClientEvent,
    Heartbeat,
    InputAudio,
    InputImage,
    InputText,
    Item,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    OutputClear,
    PlaybackAck,
    ResponseCancel,
    ResponseCreate,
    ResponseFields,
    SessionUpdate,
    SystemItem,
    UserItem,
    decode_base64,
)
from vita_duplex.server.realtime.connection import HEARTBEAT_S
from vita_duplex.server.realtime.items import Json, Place
from vita_duplex.server.realtime.pictures import picture
from vita_duplex.server.realtime.server_events import Asked, ServerEvents
from vita_duplex.server.realtime.session_settings import SessionSettings, refuse_what_nobody_can
from vita_duplex.server.realtime.silence import Silence
from vita_duplex.server.realtime.terms import Terms
from vita_duplex.vad.echo import EchoGuard

WAITING_LIMIT = 32
"""Items that may wait for `response.create`. When it is full further ones are refused with an error."""
SYSTEM_LIMIT = 32
"""System messages that are kept. When it is full further ones are refused with an error."""
PICTURE_LIMIT = 8
"""Pictures in a message. More are refused with an error."""
MIN_COMMIT_MS = 100
"""Less than this is no utterance; OpenAI has the same limit."""

SILENCE = "(I have said nothing for a while. Say briefly what helps me to go on.)"
"""What is asked in the user's place after `idle_timeout_ms`, for silence itself is no question to a model."""

Send = Callable[[server_events.Frame], None]


class Conversation:
    """Understands the events of a client. `send` takes what it is told."""

    def __init__(self, parts: Parts, model: str, events: ServerEvents, terms: Terms, send: Send, *,
                 client_pauses: bool) -> None:  # fmt: skip
        self.events = events
        self._parts = parts
        self._model = model
        self._terms = terms
        self._send = send
        self._clock = asyncio.get_running_loop().time
        duplex = parts.config.duplex
        voices = parts.voice_names
        self._server_settings = self.settings = SessionSettings(
            parts.config.vad.endpoint, duplex, voices, voices.default, parts.config.vad.echo.guard
        )
        self._resampler = Resampler(self.settings.wire_in.rate, INPUT_RATE)
        self._overflowing = False
        self._recorded: list[Samples] = []  # with turn detection null: since the last commit
        self._recorded_samples = 0
        self._system: dict[int, str] = {}
        self._silence = Silence()
        self._frames: tuple[Pixels, ...] = ()  # what is seen now
        self._pictured: int | None = None  # the item that holds what is seen now
        self._numbers = count(1)  # of utterances, spoken and typed, and of everything else a client brings
        self._client_pauses = client_pauses
        self._listener = parts.listener(self._numbers, client_pauses=client_pauses)
        logs = parts.session_logs
        self._log = logs.open(terms.session_id, duplex, parts.voice.rate) if logs else None
        self._pool = parts.pools[model]
        self._seat = self._pool.seat()
        self.session = Session(
            duplex,
            self._seat,
            self._listener,
            lambda voice: parts.speech(voice, client_pauses=client_pauses),
            self,
            self._log.step if self._log else None,
            parts.asr,
        )

    def leave(self) -> None:
        """Give the seat back; the conversation is over."""
        self._pool.leave(self._seat)

    def tell(self, notice: Notice) -> None:
        """What the session says, on its way to the client."""
        self._terms.watch.see(notice)
        self._silence.note(notice)
        if self._log:
            self._log.note(notice)
        self._send_all(self.events.translate(notice))

    def describe(self, kind: str, **more: object) -> Json:
        """`session.created`, `session.updated` or `session.resumed`."""
        return self.events.session(kind, self.settings.describe(self._model), self.settings.describe_own(), **more)

    async def take(self, event: ClientEvent) -> None:
        """Errors: `ClientError`."""
        match event:
            case SessionUpdate():
                await self.update(event)
                self._send(self.describe("session.updated"))
            case AudioAppend(event_id=event_id, audio=audio):
                await self.hear(decode_base64(audio, event_id), event_id)
            case AudioCommit(event_id=event_id):
                self._commit(event_id)
            case AudioClear():
                self.session.forget_audio()
                self._forget_recording()
                self._send(self.events.cleared())
            case ItemCreate():
                await self._create_item(event)
            case ItemRetrieve(event_id=event_id, item_id=item_id):
                self._send(self.events.retrieved(self._item(item_id, event_id)))
            case ItemDelete():
                await self._delete_item(event)
            case ItemTruncate():
                await self._truncate(event)
            case PlaybackAck(event_id=event_id, item_id=item_id, played_ms=played_ms):
                self.session.acknowledge(self._turn(item_id, event_id), self._samples(played_ms))
            case ResponseCreate():
                await self._create_response(event)
            case ResponseCancel():
                await self._cancel(event)
            case Heartbeat():
                self._send(self.events.heartbeat(HEARTBEAT_S))
            case OutputClear():
                if (response := self.events.responding) is not None:
                    await self.session.cancel_reply(response.turn)
                    self._send(self.events.output_cleared(response))
            case _:
                assert_never(event)

    # ── settings ───────────────────────────────────────────────────────────────────────

    async def update(self, event: SessionUpdate) -> None:
        """All of it or nothing. Errors: `ClientError`."""
        old, new = self.settings, self.settings.updated(event.session, self._server_settings, event.event_id)
        if new.echo_guard != old.echo_guard:
            self._listener.guard(self._echo_guard(event.event_id) if new.echo_guard else None)
        self.settings = new
        if new.wire_in.rate != old.wire_in.rate:
            self._resampler = Resampler(new.wire_in.rate, INPUT_RATE)
        if new.wire_out != old.wire_out:
            self._send_all(self.events.use(new.wire_out))
        if new.endpoint != old.endpoint:
            self._listener.configure(new.endpoint)
        if new.turn_detection is None and old.turn_detection is not None:
            quiet = (new.endpoint.silence_ms + 100) * INPUT_RATE // 1000
            self.session.hear(np.zeros(quiet, np.float32))  # who was speaking has finished
        if new.turn_detection is not None:
            self._forget_recording()
        self.events.transcribes = new.transcription is not None
        await self._configure()

    def _echo_guard(self, event_id: str | None) -> EchoGuard:
        try:
            return self._parts.echo_guard(client_pauses=self._client_pauses)
        except PartFailed as failure:
            param = "session.vita.echo_guard"
            raise ClientError("unsupported_value", failure.message, param=param, event_id=event_id) from failure

    async def _configure(self) -> None:
        """Give the session all settings anew."""
        settings = self.settings
        await self.session.configure(
            Configure(
                self._reply_settings(None),
                self._frames,
                settings.answers_speech,
                settings.transcription is not None,
                settings.language,
                SettingsChanged(settings.barge_in, settings.duplex.verdict_threshold),
            )
        )

    def _reply_settings(self, instructions: str | None) -> ReplySettings:
        return replace(self.settings.reply, instructions=self._instructions(instructions))

    def _instructions(self, own: str | None) -> str:
        """The session's or a response's own, and what system messages added."""
        return "\n\n".join(filter(None, [self.settings.instructions if own is None else own, *self._system.values()]))

    # ── the microphone ─────────────────────────────────────────────────────────────────

    async def hear(self, data: bytes, event_id: str | None = None) -> None:
        """Audio in the session's input format. Errors: `ClientError`."""
        heard = self._resampler.push(self._decode(data, event_id))
        fits = self._terms.audio.take(len(heard) / INPUT_RATE, self._clock())
        fits = fits and (self._record(heard) if self.settings.turn_detection is None else self.session.hear(heard))
        if not fits and not self._overflowing:  # told once per overflow, not once per frame
            message = "Audio came far faster than real time, or more than can be kept; it is dropped."
            self._send(self.events.server_error("input_audio_overflow", message))
        self._overflowing = not fits
        if fits:
            self._silence.hear(len(heard))
            await self._break_silence()

    async def _break_silence(self) -> None:
        """Answer that nobody speaks, if the client wants that and it is so."""
        limit_ms = self.settings.idle_timeout_ms
        if limit_ms is None or not self.session.duplex.idle or (span := self._silence.over(limit_ms)) is None:
            return
        number = next(self._numbers)
        self._send_all(self.events.timed_out(number, *span))
        await self.session.ask(number, SILENCE)

    def _decode(self, data: bytes, event_id: str | None) -> Samples:
        wire = self.settings.wire_in
        if len(data) % wire.width:
            message = f"{len(data)} bytes are no whole number of {8 * wire.width} bit samples"
            raise ClientError("invalid_audio", message, param="audio", event_id=event_id)
        return wire.decode(data)

    def _record(self, samples: Samples) -> bool:
        """Keep for the next commit; False if it were longer than an utterance may be."""
        limit = int(self._parts.config.vad.endpoint.max_utterance_s * INPUT_RATE)
        if self._recorded_samples + len(samples) > limit:
            return False
        self._recorded.append(samples)
        self._recorded_samples += len(samples)
        return True

    def _forget_recording(self) -> None:
        self._recorded, self._recorded_samples = [], 0

    def _commit(self, event_id: str | None) -> None:
        if self.settings.turn_detection is not None:
            message = "The server commits by itself while turn_detection is on."
            raise ClientError("input_audio_buffer_commit_automatic", message, event_id=event_id)
        if self._recorded_samples < MIN_COMMIT_MS * INPUT_RATE // 1000:
            message = f"Less than {MIN_COMMIT_MS} ms of audio were appended since the last commit."
            raise ClientError("input_audio_buffer_commit_empty", message, event_id=event_id)
        number = self._next_waiting(event_id)
        self.session.add_user_message(Utterance(number, np.concatenate([*self._recorded, self._resampler.finish()])))
        self._resampler = Resampler(self.settings.wire_in.rate, INPUT_RATE)
        self._forget_recording()
        self._send_all(self.events.committed(number))

    # ── items ──────────────────────────────────────────────────────────────────────────

    def _next_waiting(self, event_id: str | None) -> int:
        if self.session.dialogue.waiting >= WAITING_LIMIT:
            message = f"{WAITING_LIMIT} items wait for their answer already; ask for it."
            raise ClientError("too_many_items", message, event_id=event_id)
        return next(self._numbers)

    async def _create_item(self, event: ItemCreate) -> None:
        items, item = self.events.items, event.item
        if item.id is not None and (items.get(item.id) or items.place(item.id)):
            message = f"There is an item {item.id!r} already, or it is one of the server's own names."
            raise ClientError("item_exists", message, param="item.id", event_id=event.event_id)
        if event.previous_item_id not in (None, items.last):
            message = "Items can only be added at the end."
            raise ClientError("unsupported_value", message, param="previous_item_id", event_id=event.event_id)
        match item:
            case UserItem():
                await self._create_user_item(item, event.event_id)
            case SystemItem():
                number = await self._add_system(item.text, event.event_id)
                self._created(("brought", number), item, _shown(item))
            case AssistantItem():
                number = next(self._numbers)
                self.session.add_assistant_message(number, item.text)
                self._created(("brought", number), item, _shown(item))
            case _:
                assert_never(item)

    async def _create_user_item(self, item: UserItem, event_id: str | None) -> None:
        frames = await self._look(item, event_id)
        recordings = self._recordings(item, event_id)
        number = self._next_waiting(event_id)
        if frames:
            await self._show(frames, number)
        if recordings:
            self.session.add_user_message(Utterance(number, np.concatenate(recordings)))
        elif item.text:
            self.session.add_user_message(Utterance(number, text=item.text))
        self._created(("said", number), item, _shown(item))

    async def _show(self, frames: tuple[Pixels, ...], number: int) -> None:
        """From now on these are what is seen, as far as the server's load allows."""
        left = shown(frames, self._terms.shedding())
        self._frames, self._pictured = left, number
        await self._configure()
        if len(left) < len(frames):
            self._terms.watch.shed(len(frames) - len(left))
            self._send_all(self.events.shed(("said", number), len(left), len(frames)))

    async def _look(self, item: UserItem, event_id: str | None) -> tuple[Pixels, ...]:
        urls = [part.image_url for part in item.content if isinstance(part, InputImage)]
        if urls and not any(instance.sees for instance in self._seat.slots):
            message = "The model here cannot see; send text or audio."
            raise ClientError("image_not_supported", message, param="item.content", event_id=event_id)
        if len(urls) > PICTURE_LIMIT:
            message = f"more than {PICTURE_LIMIT} pictures in a message"
            raise ClientError("too_many_images", message, param="item.content", event_id=event_id)
        # Decoding takes tens of milliseconds; nobody else shall wait for it.
        return tuple([await asyncio.to_thread(picture, url, "item.content", event_id) for url in urls])

    def _recordings(self, item: UserItem, event_id: str | None) -> list[Samples]:
        recordings = [
            _whole(self._decode(decode_base64(part.audio, event_id), event_id), self.settings.wire_in.rate)
            for part in item.content
            if isinstance(part, InputAudio)
        ]
        if recordings and item.text:
            message = "A message holds either text or audio; send two."
            raise ClientError("unsupported_value", message, param="item.content", event_id=event_id)
        limit = self._parts.config.vad.endpoint.max_utterance_s
        if sum(map(len, recordings)) > limit * INPUT_RATE:
            message = f"more than {limit:g} s of audio in a message"
            raise ClientError("audio_too_long", message, param="item.content", event_id=event_id)
        return recordings

    async def _add_system(self, text: str, event_id: str | None) -> int:
        if len(self._system) >= SYSTEM_LIMIT:
            message = f"{SYSTEM_LIMIT} system messages are kept; delete one."
            raise ClientError("too_many_items", message, event_id=event_id)
        number = next(self._numbers)
        self._system[number] = text
        await self._configure()
        return number

    def _created(self, place: Place, item: Item, content: list[Json]) -> None:
        self._send_all(self.events.created(place, item.role, content, item.id))

    def _item(self, item_id: str, event_id: str | None) -> Json:
        item = self.events.items.get(item_id)
        if item is None:
            message = f"There is no item {item_id!r}."
            raise ClientError("item_not_found", message, param="item_id", event_id=event_id)
        return item

    async def _delete_item(self, event: ItemDelete) -> None:
        self._item(event.item_id, event.event_id)
        kind, number = self.events.items.place(event.item_id) or ("brought", 0)
        if kind == "reply":
            self.session.dialogue.remove_reply(number)
        elif kind == "said":
            self.session.dialogue.remove_message(number)
        elif self._system.pop(number, None) is not None:
            await self._configure()
        if number == self._pictured and kind == "said":
            self._frames, self._pictured = (), None
            await self._configure()
        self._send(self.events.deleted(event.item_id))

    async def _truncate(self, event: ItemTruncate) -> None:
        turn = self._turn(event.item_id, event.event_id)
        if not await self.session.truncate(turn, self._samples(event.audio_end_ms)):
            raise _no_reply(event.item_id, event.event_id)
        self._send(self.events.truncated(event.item_id, event.audio_end_ms))

    def _turn(self, item_id: str, event_id: str | None) -> int:
        """The turn of a reply's item. Errors: `ClientError` if it is no reply's."""
        kind, number = self.events.items.place(item_id) or ("said", 0)
        if kind != "reply":
            raise _no_reply(item_id, event_id)
        return number

    def _samples(self, ms: int) -> int:
        """Of the voice, whatever the rate on the wire."""
        return ms * self._parts.voice.rate // 1000

    # ── responses ──────────────────────────────────────────────────────────────────────

    async def _create_response(self, event: ResponseCreate) -> None:
        wanted = event.response or ResponseFields()
        refuse_what_nobody_can(wanted, "response", event.event_id)
        reply = self._reply_settings(wanted.instructions)
        if wanted.output_modalities is not None:
            reply = replace(reply, spoken="audio" in wanted.output_modalities)
        if wanted.max_output_tokens is not None:
            limit = wanted.max_output_tokens
            reply = replace(reply, max_tokens=None if isinstance(limit, str) else limit)
        if wanted.audio and wanted.audio.output and wanted.audio.output.voice is not None:
            name, param = wanted.audio.output.voice, "response.audio.output.voice"
            reply = replace(reply, voice=self.settings.voices.chosen(name, param, event.event_id))
        asked = Asked(wanted.metadata, wanted.max_output_tokens or self.settings.max_output_tokens)
        if wanted.conversation == "none":
            self._answer_aside(wanted, replace(reply, spoken=False), asked, event.event_id)
        elif wanted.input is not None:
            message = "`input` is for `conversation: none`; add items with conversation.item.create."
            raise ClientError("unsupported_value", message, param="response.input", event_id=event.event_id)
        else:
            await self._answer(wanted, reply, asked, event.event_id)

    async def _answer(self, wanted: ResponseFields, reply: ReplySettings, asked: Asked, event_id: str | None) -> None:
        try:
            number = await self.session.answer_waiting(reply)
        except NothingToAnswer:
            if not wanted.instructions:
                message = "Nothing to answer: add a user message first, or say in `instructions` what to do."
                raise ClientError("nothing_to_answer", message, event_id=event_id) from None
            number = next(self._numbers)
            await self.session.ask(number, wanted.instructions, reply)
        self.events.asked[number] = asked

    def _answer_aside(self, wanted: ResponseFields, reply: ReplySettings, asked: Asked, event_id: str | None) -> None:
        """Beside the conversation. There is one voice, and it belongs to the conversation: the answer is text."""
        if "audio" in (wanted.output_modalities or ()):
            message = 'A response beside the conversation is text: output_modalities must be ["text"] or left out.'
            raise ClientError("unsupported_value", message, param="response.output_modalities", event_id=event_id)
        number = next(self._numbers)
        history = self.session.dialogue.history() if wanted.input is None else self._messages(wanted.input, event_id)
        if not history and not wanted.instructions:
            raise ClientError("nothing_to_answer", "Nothing to answer: `input` is empty.", event_id=event_id)
        *history_before, last = history or (UserMessage(wanted.instructions),)
        if not isinstance(last, UserMessage) or last.text is None:
            history_before, last = [*history], UserMessage(wanted.instructions or "")
        question = Utterance(number, text=last.text)
        query = Query(tuple(history_before), (question,), reply.instructions, self._frames, max_tokens=reply.max_tokens)
        self.events.asked[number] = asked
        if not self.session.start_aside(number, query):
            del self.events.asked[number]
            raise ClientError("too_many_responses", "Too many responses are under way.", event_id=event_id)

    def _messages(self, items: list[Item], event_id: str | None) -> tuple[Message, ...]:
        messages: list[Message] = []
        for item in items:
            if isinstance(item, UserItem) and not item.text:
                message = "Beside the conversation only text can be asked about."
                raise ClientError("unsupported_value", message, param="response.input", event_id=event_id)
            messages.append(AssistantMessage(item.text) if isinstance(item, AssistantItem) else UserMessage(item.text))
        return tuple(messages)

    async def _cancel(self, event: ResponseCancel) -> None:
        response, wanted = self.events.responding, event.response_id
        if wanted is not None and wanted.startswith("resp_aside_"):
            number = wanted.removeprefix("resp_aside_")
            if number.isascii() and number.isdigit() and len(number) < 10 and self.session.cancel_aside(int(number)):
                return
        elif response is not None and wanted in (None, response.id):
            await self.session.cancel_reply(response.turn)
            return
        message = "There is no such reply to cancel."
        raise ClientError("response_cancel_not_active", message, event_id=event.event_id)

    def _send_all(self, frames: Iterable[server_events.Frame]) -> None:
        for frame in frames:
            self._send(frame)


def _no_reply(item_id: str, event_id: str | None) -> ClientError:
    return ClientError("item_not_found", f"{item_id!r} is no reply.", param="item_id", event_id=event_id)


def _whole(samples: Samples, rate: int) -> Samples:
    """A whole recording at 16 kHz."""
    resampler = Resampler(rate, INPUT_RATE)
    return np.concatenate([resampler.push(samples), resampler.finish()])


def _shown(item: Item) -> list[Json]:
    """An item's content as the conversation shows it: without its sounds and pictures, which the client has."""
    shown: list[Json] = []
    for part in item.content:
        match part:
            case InputText(text=text):
                shown.append({"type": "input_text", "text": text})
            case InputAudio():
                shown.append({"type": "input_audio", "transcript": None})
            case InputImage():
                shown.append({"type": "input_image"})
            case _:
                shown.append({"type": "output_text", "text": part.text})
    return shown
