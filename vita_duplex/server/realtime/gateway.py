"""The shell round a session's presence: carries out what it decides, with one connection after the other."""

import asyncio
import logging
import time
from typing import assert_never

from vita_duplex.engine.notices import Notice
from vita_duplex.server.errors import ClientError, Refusal
from vita_duplex.server.parts import Parts
from vita_duplex.server.realtime.client_events import Heartbeat, PlaybackAck
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.event_writer import Frame
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.realtime.presence import (
    NORMAL,
    POLICY_VIOLATION,
    RESUME_S,
    TOO_SLOW,
    UNREAD_LIMIT,
    Back,
    Beat,
    Broken,
    Close,
    Command,
    Drain,
    End,
    Erred,
    GoOn,
    Hold,
    Left,
    Presence,
    State,
    Tell,
)
from vita_duplex.server.realtime.resume import GAP, NOT_FOUND, Missed
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.terms import Terms
from vita_duplex.server.realtime.transport import (
    INTERNAL_ERROR,
    ClientKind,
    Farewell,
    FromClient,
    KeyPressed,
    Played,
    Transport,
)

log = logging.getLogger(__name__)


class ClientGone(Exception):
    """The session is over; raised in its task group to end the other tasks."""


class Gateway:
    """Serves one client until it leaves for good."""

    def __init__(
        self, first: Transport, parts: Parts, model: str, terms: Terms, kind: ClientKind, speaks: type[Conversation]
    ) -> None:
        """`model`: one of `parts.pools`; `speaks`: which events go over the transport."""
        self._terms = terms
        self._voice_rate = parts.voice.rate
        self._clock = asyncio.get_running_loop().time
        self._events = ServerEvents(
            terms.session_id,
            voice_rate=parts.voice.rate,
            vita_events=kind.vita_events,
            binary_audio=kind.binary_audio,
            plays=kind.plays,
        )
        self._missed = Missed() if terms.resume_token else None
        self._presence = Presence(terms.lifetime, self._clock(), resumable=self._missed is not None)
        self._wake = asyncio.Event()  # the presence may have another deadline
        self._connection = first
        self._arrived: asyncio.Queue[Transport] = asyncio.Queue()
        self._arrived.put_nowait(self._connection)
        self._joined: set[Transport] = set()
        self._throttled = False
        self._conversation = speaks(parts, model, self._events, terms, self._send, self._note, kind)
        self._session = self._conversation.session

    async def serve(self) -> None:
        """Run until the client is gone. The one place where our own bugs are caught: logged, closed with 1011."""
        try:
            async with asyncio.TaskGroup() as tasks:
                refused = await self._conversation.begin(self._terms.wanted)
                self._send(self._conversation.describe("session.created", **self._resume_fields()))
                if refused:
                    self._send(self._events.client_error(refused))
                tasks.create_task(self._session.run(), name="session")
                tasks.create_task(self._attend(), name="attend")
                tasks.create_task(self._watch(), name="watch")
                tasks.create_task(self._drain(), name="drain")
        except* ClientGone:
            pass
        except* Exception as bug:
            log.exception("a session ended by a bug", exc_info=bug)
            await self._connection.close(Farewell(INTERNAL_ERROR, "internal error"))
        finally:
            self._conversation.leave()
            for joined in self._joined:
                joined.end(Farewell(NORMAL, "the session is over"), flushed=True)
            while not self._arrived.empty():
                self._arrived.get_nowait().closed.set()

    # ── presence ───────────────────────────────────────────────────────────────────────

    def _perform(self, commands: list[Command]) -> None:
        self._wake.set()
        for command in commands:
            match command:
                case Hold():
                    self._session.leave()
                case GoOn():
                    self._session.come_back()
                case Tell(reason):
                    self._write(self._events.server_error(reason.code, reason.message))
                case Close(code, reason, flushed):
                    self._connection.end(Farewell(code, reason), flushed=flushed)
                case End():
                    pass  # `_watch` sees that there is no deadline any more
                case _:
                    assert_never(command)

    async def _watch(self) -> None:
        """Wake the presence at its deadlines."""
        while (deadline := self._presence.deadline) is not None:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._wake.wait()
            except TimeoutError:
                self._perform(self._presence.tick(self._clock(), busy=self._busy))
        raise ClientGone

    @property
    def _busy(self) -> bool:
        duplex = self._session.duplex
        return bool(duplex.floor or duplex.pending or duplex.undecided)

    async def _drain(self) -> None:
        """When the server is stopping, let the turn under way finish."""
        await self._terms.drain.begun.wait()
        self._send(self._events.draining(self._terms.drain.seconds_left(self._clock()) or 0.0))
        self._perform(self._presence.receive(Drain(), self._clock()))

    # ── connections ────────────────────────────────────────────────────────────────────

    async def _attend(self) -> None:
        """One connection after the other."""
        for text in self._terms.early:
            await self._take(text)
        while True:
            connection = await self._arrived.get()
            left = await connection.run(self._receive)
            event = Left(connection.number) if left else Broken(connection.number)
            self._perform(self._presence.receive(event, self._clock()))

    def take_over(self, new: Transport, last_event: int) -> Refusal | None:
        """Go on over another transport to the same client, which has seen the events up to `last_event`.

        The caller has to wait until it is `closed`, unless it is refused.
        """
        if self._missed is None or self._presence.state is State.OVER:
            return NOT_FOUND
        frames = self._missed.since(last_event)
        if frames is None:
            return GAP
        commands = self._presence.receive(Back(), self._clock())
        self._perform(commands)
        self._connection, new.number = new, self._presence.connection
        more = {**self._resume_fields(), "replayed": len(frames)}
        resumed = self._conversation.describe("session.resumed", **more).encode()
        for data in (resumed, *frames):
            new.send(data, 0)
        self._arrived.put_nowait(new)
        return None

    async def join(self, other: Transport) -> None:
        """Let another connection see the session's events and send its own, until it or the session is gone."""
        self._joined.add(other)
        other.send(self._conversation.describe("session.created").encode(), 0)
        try:
            await other.run(self._receive)
        finally:
            self._joined.discard(other)

    def hang_up(self) -> None:
        """End the session, whatever its client does."""
        self._connection.end(Farewell(NORMAL, "hung up"), flushed=True)

    def _resume_fields(self) -> Json:
        return {"resume_token": self._terms.resume_token, "resume_s": RESUME_S} if self._missed else {}

    # ── out ────────────────────────────────────────────────────────────────────────────

    def _send(self, frame: Frame) -> None:
        if self._presence.state is not State.OVER:
            self._write(frame)
            if self._presence.unread(self._connection.unread):
                self._wake.set()

    def _write(self, frame: Frame) -> None:
        data = frame.encode()
        size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        if self._missed:
            self._missed.note(frame, data, size)
        if self._presence.state is not State.AWAY:
            self._connection.send(data, size)
        for joined in self._joined:
            if isinstance(data, str):
                joined.send(data, size)
                if joined.unread > UNREAD_LIMIT:
                    joined.end(Farewell(POLICY_VIOLATION, TOO_SLOW), flushed=False)

    def _note(self, notice: Notice) -> None:
        self._connection.tell(notice)

    # ── in ─────────────────────────────────────────────────────────────────────────────

    async def _receive(self, frame: FromClient) -> None:
        if self._presence.state is not State.LIVE:
            return
        match frame:
            case Played(turn, ms):
                self._session.acknowledge(turn, round(ms * self._voice_rate / 1000))
            case KeyPressed(digit):
                self._send(self._events.key_pressed(digit, time.time()))
            case ClientError():
                self._refuse(frame, 0)
            case _:
                await self._throttle(len(frame))
                await self._take(frame)

    async def _throttle(self, size: int) -> None:
        """Who sends more than its key may is read more slowly, so that its own network connection fills up."""
        now, bucket = self._clock(), self._terms.bytes_in
        bucket.spend(size, now)
        wait = bucket.wait(0, now)
        if wait and not self._throttled:  # told once, not with each frame
            message = "This key sends more bytes a second than it may; it is read more slowly."
            self._send(self._events.server_error("rate_limit_exceeded", message))
        self._throttled = wait > 0
        self._presence.heard(now + wait)
        if wait:
            await asyncio.sleep(wait)

    async def _take(self, frame: str | bytes) -> None:
        try:
            if isinstance(frame, bytes):
                await self._conversation.hear(frame)
                return
            event = self._conversation.decode(frame)
            if self._missed and isinstance(event, PlaybackAck):
                self._missed.forget(event.item_id, event.played_ms)
            if isinstance(event, Heartbeat):
                self._perform(self._presence.receive(Beat(), self._clock()))
            await self._conversation.take(event)
        except ClientError as error:
            self._refuse(error, len(frame))

    def _refuse(self, error: ClientError, size: int) -> None:
        self._send(self._events.client_error(error))
        self._perform(self._presence.receive(Erred(size), self._clock()))
