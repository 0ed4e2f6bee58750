"""uvicorn's WebSocket, made fair: a client that floods the parser takes turns with everybody else, and is cut off."""

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from vita_duplex.server.access.limits import TokenBucket

SLICE = 2048
"""Bytes parsed per turn of the event loop, at most 340 frames: a few milliseconds. A read holds up to 256 KiB; parsed
at one go, a flood of empty fragments keeps everybody waiting for seconds."""
SMALL = 64
"""Bytes; a fragment below that moves no data."""
WASTE_PER_S, WASTE_BURST = 100, 1000
"""Pings, pongs and small fragments that a client may send. Decent ones send one ping in 20 s."""
CLOSE_S = 1.0
"""A close frame waits so long for a client that does not read; then the connection is cut."""
NO_TEXT, POLICY_VIOLATION = 1007, 1008  # RFC 6455 section 7.4.1


class FairWebSocket(WebSocketsSansIOProtocol):
    """Parses what came slice by slice, and reads on only when that is done."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unparsed = bytearray()
        self._waste = TokenBucket(WASTE_PER_S, WASTE_BURST, self.loop.time())
        self._came = self.loop.time()  # the newest bytes, or since when the client is read again

    def data_received(self, data: bytes) -> None:
        self._came = self.loop.time()
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        if self.transport.is_closing():
            self._unparsed.clear()
        if not self._unparsed:
            return
        piece = bytes(self._unparsed[:SLICE])
        del self._unparsed[:SLICE]
        super().data_received(piece)
        self._go_on()

    def _go_on(self) -> None:
        """The rest in the next turn of the loop, unless the application has messages to take first."""
        if self.read_paused or self.transport.is_closing():
            return
        if self._unparsed:
            self.transport.pause_reading()
            self.loop.call_soon(self._parse)
        else:
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        """uvicorn writes a traceback into the log for each text that is none; it is the client's mistake, not ours."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            self.frames = [b"".join(self.frames)]
            try:
                str(self.frames[0], "utf-8")
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(NO_TEXT, "not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._came = self.loop.time()
            self._go_on()
        return message

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self.writable.wait()
            except TimeoutError:
                self.transport.abort()
        await super().send(message)
        if message["type"] == "websocket.close":
            self._go_on()  # the answer to it may be among what is not parsed

    def keepalive_timeout(self) -> None:
        """A ping went unanswered. Whatever came is a sign of life, and of a client that is not read none can come."""
        silent_s = 0.0 if self.read_paused else self.loop.time() - self._came
        assert self.ping_timeout is not None
        if silent_s < self.ping_timeout:
            self.pong_timer = self.loop.call_later(self.ping_timeout - silent_s, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def handle_ping(self) -> None:
        super().handle_ping()
        self._count_waste()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count_waste()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(event.data) < SMALL:
            self._count_waste()

    def _count_waste(self) -> None:
        if self._waste.take(1, self.loop.time()) or self.close_sent:
            return
        self.conn.fail(POLICY_VIOLATION, "too many empty frames")
        self.handle_parser_exception()
