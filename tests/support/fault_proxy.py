"""A bad network between a client and the server: a TCP proxy that delays, stalls, falls silent and cuts."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PIECE = 1460
"""Bytes forwarded at a time: a packet's."""
IN_FLIGHT = 64
"""Pieces under way in one direction; then the proxy reads no more, as a full network would."""


@dataclass
class Link:
    """What happens to the bytes; may be changed while they flow."""

    jitter_s: float = 0.0
    """Each piece is late by up to so much; none overtakes another, for TCP does not let it."""
    stalls: float = 0.0
    """Share of the pieces that everything behind them waits for, `stall_s` long: a lost packet."""
    stall_s: float = 1.0
    bytes_per_s: float | None = None
    """To the client."""
    seed: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set nothing is forwarded, and neither side is told: a half-open connection."""
    port: int = 0
    _transports: list[asyncio.WriteTransport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self.open.set()

    def cut(self) -> None:
        """Reset both connections."""
        for transport in self._transports:
            transport.abort()
        self._transports.clear()

    def delay_s(self) -> float:
        lost = self._dice.random() < self.stalls
        return self._dice.uniform(0, self.jitter_s) + (self.stall_s if lost else 0.0)

    async def _serve(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel reads megabytes for a slow reader
        there.setblocking(False)
        await asyncio.get_running_loop().sock_connect(there, ("127.0.0.1", target))
        reader_there, writer_there = await asyncio.open_connection(sock=there, limit=PIECE)
        self._transports += [writer.transport, writer_there.transport]
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forward(reader, writer_there, None))
                tasks.create_task(self._forward(reader_there, writer, self.bytes_per_s))
        for one in (writer, writer_there):
            one.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float | None) -> None:
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)

        async def deliver() -> None:
            while (piece := await under_way.get())[1]:
                await asyncio.sleep(piece[0] - clock())
                await self.open.wait()
                if rate:
                    await asyncio.sleep(len(piece[1]) / rate)
                writer.write(piece[1])
                await writer.drain()
            writer.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            due = 0.0
            while data := await reader.read(PIECE):
                due = max(due, clock() + self.delay_s())
                await under_way.put((due, data))
            await under_way.put((due, b""))


@asynccontextmanager
async def proxied(target: int, link: Link) -> AsyncIterator[Link]:
    """A proxy in front of that port, on `link.port`."""

    serving: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(ExceptionGroup, ConnectionError, asyncio.CancelledError):
            await link._serve(target, reader, writer)
        serving.discard(asyncio.current_task())

    proxy = await asyncio.start_server(connected, "127.0.0.1", 0, limit=PIECE)
    link.port = proxy.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        proxy.close()
        link.cut()
        left = [task for task in serving if task]
        for task in left:
            task.cancel()
        await asyncio.gather(*left)
