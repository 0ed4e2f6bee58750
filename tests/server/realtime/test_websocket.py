"""Floods below the level of messages, against the web server itself: they keep nobody waiting."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from vita_duplex.server.realtime.websocket import SLICE, WASTE_BURST, FairWebSocket

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
TEXT, CONTINUATION, PING = 1, 0, 9


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """One masked frame, RFC 6455 section 5.2; the mask is zero."""
    assert len(payload) < 126
    return bytes([0x80 * final | opcode, 0x80 | len(payload)]) + bytes(4) + payload


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await asyncio.sleep(0)
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})


@asynccontextmanager
async def serving(app: Any = echo) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, ws=FairWebSocket, ws_per_message_deflate=False, ws_max_size=2**20, lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    await running


async def raw(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """A connection after its handshake, and the answer to that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    answer = await reader.readuntil(b"\r\n\r\n")
    return reader, writer, answer.decode()


@pytest.mark.parametrize("flood", [frame(PING), frame(CONTINUATION, final=False)], ids=["pings", "empty fragments"])
async def test_frames_that_carry_nothing_are_parsed_in_slices_and_end_the_connection(
    flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, turn, sizes, codes = asyncio.get_running_loop(), 0, Counter[int](), list[int]()
    parse = WebSocketsSansIOProtocol.data_received

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count_turns)

    def watched(self: WebSocketsSansIOProtocol, data: bytes) -> None:
        sizes[turn] += len(data)
        parse(self, data)

    async def listen(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            pass
        codes.append(message["code"])

    monkeypatch.setattr(WebSocketsSansIOProtocol, "data_received", watched)
    count_turns()
    async with serving(listen) as port:
        reader, writer, _ = await raw(port)
        writer.write(frame(TEXT, b"x", final=False) + flood * 20_000)
        with suppress(ConnectionResetError):
            async with asyncio.timeout(20):
                while await reader.read(65_536):
                    pass
        writer.close()
    assert codes == [1008]
    assert max(sizes.values()) <= SLICE, "in one turn of the loop"
    assert sizes.total() < (WASTE_BURST + 400) * len(flood), "the rest is not even parsed"


async def test_tiny_messages_wait_until_the_application_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    receive = FairWebSocket.receive

    async def watched(self: FairWebSocket) -> Any:
        waiting.append(self.queue.qsize())
        return await receive(self)

    monkeypatch.setattr(FairWebSocket, "receive", watched)
    async with serving() as port:
        reader, writer, _ = await raw(port)
        writer.write(frame(TEXT, b"1") * 3000)
        await reader.readexactly(3000 * 3)  # their echo
        assert max(waiting) <= SLICE / 7 + 1
        writer.close()


async def test_messages_of_all_sizes_arrive_whole_and_in_order() -> None:
    sizes = [0, 1, 125, 126, SLICE - 8, SLICE, SLICE + 1, 65_535, 65_536, 300_000, 1]
    async with serving() as port, connect(f"ws://127.0.0.1:{port}") as client:
        for size in sizes:
            await client.send(bytes([size % 251]) * size)
        for size in sizes:
            assert await client.recv() == bytes([size % 251]) * size
        fragments = [b"a" * 5000, b"b" * 5000, b"c"]
        await client.send(fragments)
        assert await client.recv() == b"".join(fragments)


async def test_a_message_that_is_too_large_ends_the_connection() -> None:
    async with serving() as port, connect(f"ws://127.0.0.1:{port}") as client:
        await client.send(bytes(2**20 + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            await client.recv()


async def test_compression_is_not_agreed_to_so_nothing_can_blow_up() -> None:
    async with serving() as port:
        _, writer, answer = await raw(port)
        assert answer.startswith("HTTP/1.1 101")
        assert "extensions" not in answer.lower()
        writer.close()
