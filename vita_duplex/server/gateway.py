"""One WebSocket connection: client events in, a session, server events out."""

import asyncio
import json
import logging
from dataclasses import dataclass
from itertools import count
from typing import assert_never

from fastapi import WebSocket, WebSocketDisconnect

from vita_duplex.engine.notices import Notice
from vita_duplex.engine.seams import INPUT_RATE, Samples
from vita_duplex.engine.session import Session
from vita_duplex.server.client_events import (
    RATES,
    AudioAppend,
    AudioClear,
    AudioInput,
    AudioOutput,
    ClientError,
    ClientEvent,
    ItemCreate,
    ItemTruncate,
    PlaybackAck,
    ResponseCancel,
    ResponseCreate,
    ServerVad,
    SessionUpdate,
    decode,
    decode_base64,
    decode_pcm16,
)
from vita_duplex.server.parts import Parts
from vita_duplex.server.resample import Resampler
from vita_duplex.server.server_events import Json, ServerEvents, turn_of
from vita_duplex.server.terms import Terms

log = logging.getLogger(__name__)

OUTGOING_LIMIT = 500
"""Events that may wait for a slow reader: some twenty seconds of speech. When it is full the connection is closed;
nobody else notices."""
TYPED_LIMIT = 32
"""Typed items that may wait for `response.create`. When it is full further ones are refused with an error."""

TURN_DETECTION = "session.audio.input.turn_detection"

DRAIN_LOOK_S = 0.1
"""How often a session looks whether its turn is over while the server is stopping."""

# WebSocket close codes, RFC 6455 section 7.4.1 and its IANA registry.
NORMAL = 1000
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012


class ClientGone(Exception):
    """The connection is over; raised in its task group to end the other tasks."""


class TooSlow(Exception):
    """The client does not read what it is sent."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """Goes out after everything else; closes the connection."""

    code: int
    reason: str


class Gateway:
    """Serves one client until it leaves."""

    def __init__(self, socket: WebSocket, parts: Parts, model: str, terms: Terms) -> None:
        self._socket = socket
        self._parts = parts
        self._model = model
        self._terms = terms
        self._vita_events = socket.query_params.get("vita_events") == "true"
        self._events = ServerEvents(terms.session_id, voice_rate=parts.voice.rate, vita_events=self._vita_events)
        self._outgoing: asyncio.Queue[Json | Farewell] = asyncio.Queue(OUTGOING_LIMIT)
        self._typed: list[tuple[int, str]] = []  # typed items that wait for `response.create`
        self._rate_in = 24_000
        self._resampler = Resampler(self._rate_in, INPUT_RATE)
        self._overflowing = False
        self._throttled = False
        self._clock = asyncio.get_running_loop().time
        self._numbers = count(1)  # of utterances, spoken and typed
        self._listener = parts.listener(self._numbers)
        self._slots = parts.pool.seat()
        self._session = Session(
            parts.config.duplex,
            self._slots,
            self._listener,
            lambda: parts.speech(client_pauses=self._vita_events),
            self,
        )

    async def serve(self) -> None:
        """Run until the client is gone. The one place where our own bugs are caught: logged, closed with 1011."""
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._terms.wanted:
                    self._apply(SessionUpdate(type="session.update", session=self._terms.wanted))
                self._send(self._session_event("session.created"))
                tasks.create_task(self._write(), name="write")
                tasks.create_task(self._session.run(), name="session")
                tasks.create_task(self._read(), name="read")
                tasks.create_task(self._expire(), name="expire")
                tasks.create_task(self._drain(), name="drain")
        except* (ClientGone, WebSocketDisconnect):
            pass
        except* TooSlow:
            await self._close(POLICY_VIOLATION, "too slow: the client does not read what it is sent")
        except* Exception as bug:
            log.exception("a session ended by a bug", exc_info=bug)
            await self._close(INTERNAL_ERROR, "internal error")
        finally:
            self._parts.pool.leave(self._slots)

    def tell(self, notice: Notice) -> None:
        """What the session says, on its way to the client."""
        self._terms.watch.see(notice)
        for event in self._events.translate(notice):
            self._send(event)

    # ── out ────────────────────────────────────────────────────────────────────────────

    def _send(self, event: Json | Farewell) -> None:
        try:
            self._outgoing.put_nowait(event)
        except asyncio.QueueFull:
            raise TooSlow from None

    async def _write(self) -> None:
        while True:
            event = await self._outgoing.get()
            if isinstance(event, Farewell):
                await self._close(event.code, event.reason)
                raise ClientGone
            try:
                await self._socket.send_text(json.dumps(event, ensure_ascii=False))
            except RuntimeError as closed:  # by the web server itself: no pong came, or a broken frame
                raise ClientGone from closed

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(1):  # the other side may be the reason why we close
                await self._socket.close(code, reason)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass

    # ── the end ────────────────────────────────────────────────────────────────────────

    async def _expire(self) -> None:
        """End the session when its terms say so."""
        lifetime = self._terms.lifetime
        while (reason := lifetime.over(self._clock())) is None:  # noqa: ASYNC110 - a time is waited for
            await asyncio.sleep(lifetime.deadline - self._clock())
        self._send(self._events.server_error(reason.code, reason.message))
        self._send(Farewell(NORMAL, reason.code))

    async def _drain(self) -> None:
        """When the server is stopping, let the turn under way finish."""
        await self._terms.drain.begun.wait()
        left = self._terms.drain.seconds_left(self._clock())
        self._send(self._events.draining(left or 0.0))
        await asyncio.sleep(DRAIN_LOOK_S)  # what was just asked is on its way
        duplex = self._session.duplex
        while duplex.floor or duplex.judging or duplex.undecided:  # noqa: ASYNC110 - the core is pure, it has no events
            await asyncio.sleep(DRAIN_LOOK_S)
        self._send(Farewell(SERVICE_RESTART, "server_draining"))

    # ── in ─────────────────────────────────────────────────────────────────────────────

    async def _read(self) -> None:
        for text in self._terms.early:
            await self._take(text)
        while True:
            message = await self._socket.receive()
            await asyncio.sleep(0)  # when frames come in a flood, `receive` never waits: let others have their turn
            if message["type"] == "websocket.disconnect":
                raise ClientGone
            frame = message["bytes"] if message.get("bytes") is not None else message.get("text") or ""
            self._terms.lifetime.heard(self._clock())
            await self._throttle(len(frame))
            await self._take(frame)

    async def _throttle(self, size: int) -> None:
        """Who sends more than its key may is read more slowly, so that its own network connection fills up."""
        bucket = self._terms.bytes_in
        bucket.spend(size, self._clock())
        wait = bucket.wait(0, self._clock())
        if wait and not self._throttled:  # told once, not with each frame
            message = "This key sends more bytes a second than it may; it is read more slowly."
            self._send(self._events.server_error("rate_limit_exceeded", message))
        self._throttled = wait > 0
        await asyncio.sleep(wait)

    async def _take(self, frame: str | bytes) -> None:
        try:
            if isinstance(frame, bytes):
                self._hear(decode_pcm16(frame))
            else:
                await self._receive(decode(frame))
        except ClientError as error:
            self._send(self._events.client_error(error))

    async def _receive(self, event: ClientEvent) -> None:
        match event:
            case SessionUpdate():
                self._update(event)
            case AudioAppend(event_id=event_id, audio=audio):
                self._hear(decode_pcm16(decode_base64(audio, event_id), event_id))
            case AudioClear():
                self._listener.forget()
                self._send(self._events.cleared())
            case ItemCreate():
                self._create_item(event)
            case ItemTruncate():
                await self._truncate(event)
            case PlaybackAck(event_id=event_id, item_id=item_id, played_ms=played_ms):
                self._session.acknowledge(_turn(item_id, event_id), self._samples(played_ms))
            case ResponseCreate(event_id=event_id):
                await self._create_response(event_id)
            case ResponseCancel(event_id=event_id, response_id=response_id):
                response = self._events.responding
                if response is None or response_id not in (None, response.id):
                    message = "There is no such reply to cancel."
                    raise ClientError("response_cancel_not_active", message, event_id=event_id)
                await self._session.cancel_reply(response.turn)
            case _:
                assert_never(event)

    def _create_item(self, event: ItemCreate) -> None:
        if len(self._typed) >= TYPED_LIMIT:
            message = f"{TYPED_LIMIT} typed items wait for their answer already; ask for it."
            raise ClientError("too_many_items", message, event_id=event.event_id)
        number = next(self._numbers)
        self._typed.append((number, event.text))
        for reply in self._events.typed_item(number, event.text):
            self._send(reply)

    async def _create_response(self, event_id: str | None) -> None:
        if not self._typed:
            message = "Nothing to answer: create a user message with input_text first; speech is answered by itself."
            raise ClientError("nothing_to_answer", message, event_id=event_id)
        number, text = self._typed[-1][0], "\n".join(text for _, text in self._typed)
        self._typed = []
        await self._session.ask(number, text)

    async def _truncate(self, event: ItemTruncate) -> None:
        turn = _turn(event.item_id, event.event_id)
        if not await self._session.truncate(turn, self._samples(event.audio_end_ms)):
            raise _no_reply(event.item_id, event.event_id)
        self._send(self._events.truncated(turn, event.audio_end_ms))

    def _samples(self, ms: int) -> int:
        """Of the voice, whatever the rate on the wire."""
        return ms * self._parts.voice.rate // 1000

    def _hear(self, samples: Samples) -> None:
        heard = self._resampler.push(samples)
        fits = self._terms.audio.take(len(heard) / INPUT_RATE, self._clock()) and self._listener.hear(heard)
        if not fits and not self._overflowing:  # told once per overflow, not once per frame
            message = "Audio came far faster than real time; it is dropped. Send it at about the pace of speech."
            self._send(self._events.server_error("input_audio_overflow", message))
        self._overflowing = not fits

    def _update(self, event: SessionUpdate) -> None:
        self._apply(event)
        self._send(self._session_event("session.updated"))

    def _apply(self, event: SessionUpdate) -> None:
        audio = event.session.audio
        rate_in = _rate(audio.input if audio else None, "session.audio.input.format.rate", event)
        rate_out = _rate(audio.output if audio else None, "session.audio.output.format.rate", event)
        if audio and audio.input and "turn_detection" in audio.input.model_fields_set:
            self._update_turn_detection(audio.input.turn_detection, event.event_id)
        if rate_in is not None and rate_in != self._rate_in:
            self._rate_in, self._resampler = rate_in, Resampler(rate_in, INPUT_RATE)
        if rate_out is not None:
            self._events.rate_out = rate_out
        if event.session.instructions is not None:
            self._session.instructions = event.session.instructions

    def _update_turn_detection(self, wanted: ServerVad | None, event_id: str | None) -> None:
        if wanted is None:
            message = "turn_detection null (push to talk) is not supported; this server listens all the time."
            raise ClientError("unsupported_value", message, param=TURN_DETECTION, event_id=event_id)
        fields = {
            "threshold": wanted.threshold,
            "pre_roll_ms": wanted.prefix_padding_ms,
            "silence_ms": wanted.silence_duration_ms,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        self._listener.configure(self._listener.config.model_copy(update=given))

    def _session_event(self, kind: str) -> Json:
        endpoint = self._listener.config
        turn_detection = {
            "type": "server_vad",
            "threshold": endpoint.threshold,
            "prefix_padding_ms": endpoint.pre_roll_ms,
            "silence_duration_ms": endpoint.silence_ms,
            "create_response": True,
            "interrupt_response": self._parts.config.duplex.barge_in != "off",
        }
        fields = {
            "type": "realtime",
            "model": self._model,
            "instructions": self._session.instructions,
            "output_modalities": ["audio"],
            "tools": [],
            "audio": {
                "input": {"format": {"type": "audio/pcm", "rate": self._rate_in}, "turn_detection": turn_detection},
                "output": {"format": {"type": "audio/pcm", "rate": self._events.rate_out}},
            },
        }
        return self._events.session(kind, fields)


def _turn(item_id: str, event_id: str | None) -> int:
    """The turn of a reply's item. Errors: `ClientError` if it is no reply's."""
    turn = turn_of(item_id)
    if turn is None:
        raise _no_reply(item_id, event_id)
    return turn


def _no_reply(item_id: str, event_id: str | None) -> ClientError:
    return ClientError("item_not_found", f"{item_id!r} is no reply.", param="item_id", event_id=event_id)


def _rate(audio: AudioInput | AudioOutput | None, param: str, event: SessionUpdate) -> int | None:
    """The sample rate asked for, if any. Errors: `ClientError` if it is none of ours."""
    if audio is None or audio.format is None:
        return None
    rate = audio.format.rate
    if rate not in RATES:
        message = f"audio/pcm at {rate} Hz is not supported; use {' or '.join(map(str, RATES))} Hz."
        raise ClientError("unsupported_rate", message, param=param, event_id=event.event_id)
    return rate
