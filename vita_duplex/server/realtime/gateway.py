"""A session and its connection; when that breaks, the next one of the same client."""

import asyncio
import logging

from fastapi import WebSocket

from vita_duplex.server.errors import ClientError
from vita_duplex.server.parts import Parts
from vita_duplex.server.realtime.client_events import Heartbeat, PlaybackAck, SessionUpdate, decode
from vita_duplex.server.realtime.connection import NORMAL, Connection, End, Farewell, TooSlow
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.event_writer import Frame
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.realtime.resume import RESUME_S, Missed
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.terms import Terms

log = logging.getLogger(__name__)

DRAIN_LOOK_S = 0.1
"""How often a session looks whether its turn is over while the server is stopping."""

# WebSocket close codes, RFC 6455 section 7.4.1 and its IANA registry; from 4000 on they are an application's own.
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
REPLACED = 4001


class ClientGone(Exception):
    """The session is over; raised in its task group to end the other tasks."""


class Gateway:
    """Serves one client until it leaves for good."""

    def __init__(self, socket: WebSocket, parts: Parts, model: str, terms: Terms) -> None:
        """`model`: one of `parts.pools`."""
        self._parts = parts
        self._terms = terms
        query = socket.query_params
        vita_events = query.get("vita_events") == "true"
        events = ServerEvents(
            terms.session_id,
            voice_rate=parts.voice.rate,
            vita_events=vita_events,
            binary_audio=query.get("binary_audio") == "true",
        )
        self._events = events
        self._connection: Connection | None = Connection(socket)
        self._arrived = asyncio.Event()
        self._missed = Missed() if terms.resume_token else None
        self._throttled = False
        self._clock = asyncio.get_running_loop().time
        self._conversation = Conversation(parts, model, events, terms, self._send, client_pauses=vita_events)
        self._session = self._conversation.session

    async def serve(self) -> None:
        """Run until the client is gone. The one place where our own bugs are caught: logged, closed with 1011."""
        try:
            async with asyncio.TaskGroup() as tasks:
                refused = await self._grant()
                self._send(self._conversation.describe("session.created", **self._resume_fields()))
                if refused:
                    self._send(self._events.client_error(refused))
                tasks.create_task(self._session.run(), name="session")
                tasks.create_task(self._attend(), name="attend")
                tasks.create_task(self._expire(), name="expire")
                tasks.create_task(self._drain(), name="drain")
        except* ClientGone:
            pass
        except* TooSlow:
            await self._close(POLICY_VIOLATION, "too slow: the client does not read what it is sent")
        except* Exception as bug:
            log.exception("a session ended by a bug", exc_info=bug)
            await self._close(INTERNAL_ERROR, "internal error")
        finally:
            self._conversation.leave()
            if self._connection:
                self._connection.closed.set()

    async def _grant(self) -> ClientError | None:
        """Begin with the settings that came with the key; or say what is wrong with them."""
        if self._terms.wanted:
            try:
                await self._conversation.update(SessionUpdate(type="session.update", session=self._terms.wanted))
            except ClientError as error:
                return error
        return None

    # ── out ────────────────────────────────────────────────────────────────────────────

    def _send(self, frame: Frame) -> None:
        if self._missed:
            self._missed.note(frame, self._conversation.settings.wire_out)
        if self._connection:
            self._connection.send(frame)

    async def _close(self, code: int, reason: str) -> None:
        if self._connection:
            await self._connection.close(code, reason)

    # ── connections ────────────────────────────────────────────────────────────────────

    def _resume_fields(self) -> Json:
        return {"resume_token": self._terms.resume_token, "resume_s": RESUME_S} if self._missed else {}

    def take_over(self, socket: WebSocket, last_event: int) -> Connection | None:
        """Go on with another connection of the same client, which has seen the events up to `last_event`.

        None if some that it has not seen are not kept any more. The old connection, if it still seems to be there,
        is closed, and nothing more is taken from it. The caller has to wait until the new one is `closed`.
        """
        assert self._missed is not None
        frames = self._missed.since(last_event)
        if frames is None:
            return None
        if self._connection:
            self._connection.replace()
            if not self._connection.started:
                self._connection.closed.set()
        self._connection = Connection(socket)
        more = {**self._resume_fields(), "replayed": len(frames)}
        resumed = self._conversation.describe("session.resumed", **more)
        resumed["event_id"] = resumed["event_id"].replace("event", "resumed")  # it is none of those that can be missed
        for frame in (resumed, *frames):
            self._connection.send(frame, limited=False)
        self._arrived.set()
        return self._connection

    async def _attend(self) -> None:
        """One connection after the other."""
        for text in self._terms.early:
            await self._take(text)
        while (connection := self._connection) is not None:
            end = await connection.run(self._receive)
            if end is End.REPLACED:
                await connection.close(REPLACED, "the session goes on in another connection")
            connection.closed.set()
            if self._connection is not connection:
                continue
            self._connection = None
            if end is End.LEFT or self._missed is None:
                break
            await self._wait_for_return()
        raise ClientGone

    async def _wait_for_return(self) -> None:
        self._session.leave()
        self._arrived.clear()
        try:
            async with asyncio.timeout(RESUME_S):
                await self._arrived.wait()
        except TimeoutError:
            raise ClientGone from None
        self._session.come_back()

    # ── the end ────────────────────────────────────────────────────────────────────────

    async def _expire(self) -> None:
        """End the session when its terms say so."""
        lifetime = self._terms.lifetime
        while (reason := lifetime.over(self._clock())) is None:  # noqa: ASYNC110 - a time is waited for
            await asyncio.sleep(lifetime.deadline - self._clock())
        self._send(self._events.server_error(reason.code, reason.message))
        self._dismiss(NORMAL, reason.code)

    async def _drain(self) -> None:
        """When the server is stopping, let the turn under way finish."""
        await self._terms.drain.begun.wait()
        left = self._terms.drain.seconds_left(self._clock())
        self._send(self._events.draining(left or 0.0))
        await asyncio.sleep(DRAIN_LOOK_S)  # what was just asked is on its way
        duplex = self._session.duplex
        while duplex.floor or duplex.pending or duplex.undecided:  # noqa: ASYNC110 - the core is pure, it has no events
            await asyncio.sleep(DRAIN_LOOK_S)
        self._dismiss(SERVICE_RESTART, "server_draining")

    def _dismiss(self, code: int, reason: str) -> None:
        if self._connection is None:
            raise ClientGone
        self._connection.send(Farewell(code, reason), limited=False)

    # ── in ─────────────────────────────────────────────────────────────────────────────

    async def _receive(self, frame: str | bytes) -> None:
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
                await self._conversation.hear(frame)
                return
            event = decode(frame)
            if self._missed and isinstance(event, PlaybackAck):
                self._missed.forget(event.item_id, event.played_ms)
            if self._connection and isinstance(event, Heartbeat):
                self._connection.expect_heartbeats()
            await self._conversation.take(event)
        except ClientError as error:
            self._send(self._events.client_error(error))
