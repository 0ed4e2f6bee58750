"""One WebSocket: frames of the client in, events out, until it is gone or is cut."""

import asyncio

from fastapi import WebSocket, WebSocketDisconnect

from vita_duplex.engine.notices import Notice
from vita_duplex.server.realtime.presence import NORMAL
from vita_duplex.server.realtime.transport import Farewell, Take

CLOSE_S = 2.0
"""Closing takes no longer: the other side may be the reason for it."""


class Ended(Exception):
    """Raised in the connection's task group, or by `take`, to end its other tasks."""

    def __init__(self, left: bool) -> None:
        self.left = left


class Connection:
    """The transport over one socket. Its client plays the audio itself, and hears of holds by events."""

    def __init__(self, socket: WebSocket) -> None:
        self.number = 1
        self.closed = asyncio.Event()
        self.unread = 0
        self._socket = socket
        self._outgoing: asyncio.Queue[tuple[str | bytes, int] | Farewell] = asyncio.Queue()
        self._cut = asyncio.Event()
        self._farewell: Farewell | None = None

    def tell(self, notice: Notice) -> None:
        pass

    def send(self, data: str | bytes, size: int) -> None:
        self.unread += size
        self._outgoing.put_nowait((data, size))

    def end(self, farewell: Farewell, *, flushed: bool) -> None:
        if flushed:
            self._outgoing.put_nowait(farewell)
        else:
            self._farewell = farewell
            self._cut.set()

    async def run(self, take: Take) -> bool:
        try:
            left = await self._exchange(take)
            if self._farewell:
                await self.close(self._farewell)
        finally:
            self.closed.set()
        return left

    async def _exchange(self, take: Take) -> bool:
        left = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wait(), name="cut")
                tasks.create_task(self._write(), name="write")
                tasks.create_task(self._read(take), name="read")
        except* Ended as ended:
            left = any(isinstance(one, Ended) and one.left for one in ended.exceptions)
        except* WebSocketDisconnect:
            pass
        return left

    async def _wait(self) -> None:
        await self._cut.wait()
        raise Ended(left=False)

    async def _write(self) -> None:
        while True:
            waiting = await self._outgoing.get()
            if isinstance(waiting, Farewell):
                await self.close(waiting)
                raise Ended(left=True)
            data, size = waiting
            try:
                if isinstance(data, bytes):
                    await self._socket.send_bytes(data)
                else:
                    await self._socket.send_text(data)
            except RuntimeError as closed:  # by the web server itself: no pong came, or a broken frame
                raise Ended(left=False) from closed
            self.unread -= size

    async def _read(self, take: Take) -> None:
        while True:
            message = await self._socket.receive()
            await asyncio.sleep(0)  # when frames come in a flood, `receive` never waits: let others have their turn
            if message["type"] == "websocket.disconnect":
                raise Ended(left=message.get("code") == NORMAL)
            await take(message["bytes"] if message.get("bytes") is not None else message.get("text") or "")

    async def close(self, farewell: Farewell) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(farewell.code, farewell.reason)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass
