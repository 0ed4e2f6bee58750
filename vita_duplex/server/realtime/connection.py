"""One WebSocket: frames of the client in, events out, until it is gone or another one takes its place."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message

from vita_duplex.server.realtime.event_writer import Frame

OUTGOING_LIMIT = 500
"""Events that may wait for a slow reader: some twenty seconds of speech. When it is full the connection is closed;
nobody else notices."""
NORMAL = 1000  # WebSocket close code, RFC 6455 section 7.4.1
NO_HEARTBEAT = 4002  # from 4000 on close codes are an application's own
HEARTBEAT_S = 15.0
"""A client that sends heartbeats is gone when nothing has come for so long: three of one in five seconds. Of others
only the web server's pings tell, which any client answers: one in 20 s, with 20 s for the answer."""

Take = Callable[[str | bytes], Awaitable[None]]


class TooSlow(Exception):
    """The client does not read what it is sent."""


class End(Enum):
    """How a connection ended."""

    LEFT = "left"  # the client closed it, or was sent away
    LOST = "lost"  # it broke
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Farewell:
    """Goes out after everything else; closes the connection."""

    code: int
    reason: str


class _Ended(Exception):
    """Raised in the connection's task group to end its other task."""

    def __init__(self, end: End) -> None:
        self.end = end


class Connection:
    """Reads and writes one socket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._outgoing: asyncio.Queue[Frame | Farewell] = asyncio.Queue()
        self._replaced = asyncio.Event()
        self.closed = asyncio.Event()
        """Its owner is done with it."""
        self.started = False
        self._patience_s: float | None = None

    def expect_heartbeats(self) -> None:
        """From now on something has to come every `HEARTBEAT_S`."""
        self._patience_s = HEARTBEAT_S

    def send(self, frame: Frame | Farewell, *, limited: bool = True) -> None:
        """Errors: `TooSlow`. What a client missed is not `limited`: it comes all at once."""
        if limited and self._outgoing.qsize() >= OUTGOING_LIMIT:
            raise TooSlow
        self._outgoing.put_nowait(frame)

    def replace(self) -> None:
        """Another connection continues the session: take nothing more from this one."""
        self._replaced.set()

    async def run(self, take: Take) -> End:
        """Give each frame to `take` until the end."""
        self.started = True
        end = End.LOST
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(), name="write")
                tasks.create_task(self._read(take), name="read")
                tasks.create_task(self._wait(), name="fence")
        except* _Ended as ended:
            first = ended.exceptions[0]
            assert isinstance(first, _Ended)
            end = first.end
        except* WebSocketDisconnect:
            pass
        return end

    async def _wait(self) -> None:
        await self._replaced.wait()
        raise _Ended(End.REPLACED)

    async def _write(self) -> None:
        while True:
            frame = await self._outgoing.get()
            if isinstance(frame, Farewell):
                await self.close(frame.code, frame.reason)
                raise _Ended(End.LEFT)
            try:
                if isinstance(frame, bytes):
                    await self._socket.send_bytes(frame)
                else:
                    await self._socket.send_text(json.dumps(frame, ensure_ascii=False))
            except RuntimeError as closed:  # by the web server itself: no pong came, or a broken frame
                raise _Ended(End.LOST) from closed

    async def _read(self, take: Take) -> None:
        while True:
            message = await self._next_message()
            await asyncio.sleep(0)  # when frames come in a flood, `receive` never waits: let others have their turn
            if message["type"] == "websocket.disconnect":
                raise _Ended(End.LEFT if message.get("code") == NORMAL else End.LOST)
            await take(message["bytes"] if message.get("bytes") is not None else message.get("text") or "")

    async def _next_message(self) -> Message:
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._socket.receive()
        except TimeoutError:
            await self.close(NO_HEARTBEAT, "no heartbeat")
            raise _Ended(End.LOST) from None

    async def close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(1):  # the other side may be the reason why we close
                await self._socket.close(code, reason)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass
