"""Floods below the level of messages, against the web server itself: they keep nobody waiting."""

import ast
import asyncio
import inspect
import socket
import textwrap
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.server import ServerProtocol

from tests.support.virtual_time import run
from vita_duplex.server.realtime.websocket import CLOSE_S, SLICE, WASTE_BURST, FairWebSocket

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


# ── on virtual time, over a transport without a network ────────────────────────────────


class Wire(asyncio.Transport):
    """Takes what is written; `protocol` is told when the connection is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: FairWebSocket
        self.written = bytearray()
        self.cut = self.closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.cut = self.closing = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


def wired(app: Any) -> Wire:
    config = uvicorn.Config(app, ws_ping_interval=20, ws_ping_timeout=20, log_config=None)
    config.load()
    wire = Wire()
    wire.protocol = FairWebSocket(config, ServerState(), {}, asyncio.get_running_loop())
    wire.protocol.connection_made(wire)
    wire.protocol.data_received(HANDSHAKE)
    return wire


def test_a_client_that_is_read_slowly_need_not_answer_pings_meanwhile() -> None:
    async def script() -> None:
        taken: list[float] = []

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] == "websocket.receive":
                taken.append(asyncio.get_running_loop().time())
                await asyncio.sleep(100)

        wire = wired(slow)
        await asyncio.sleep(0)
        wire.protocol.data_received(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(TEXT, b"3"))  # a pong is behind them
        await asyncio.sleep(219)
        assert (taken, wire.closing) == ([0, 100, 200], False)
        await asyncio.sleep(22)  # all is parsed, and no pong comes
        assert wire.closing
        assert b"keepalive ping timeout" in wire.written
        wire.protocol.connection_lost(None)
        await asyncio.sleep(60)

    run(script())


def test_a_client_that_reads_nothing_is_cut_when_it_is_closed() -> None:
    async def script() -> None:
        async def sends(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            wire.protocol.pause_writing()
            await send({"type": "websocket.close", "code": 4002})

        wire = wired(sends)
        await asyncio.sleep(CLOSE_S - 0.1)
        assert not wire.cut
        await asyncio.sleep(0.2)
        assert wire.cut

    run(script())


# ── the contract with uvicorn ──────────────────────────────────────────────────────────

OURS = {"_unparsed", "_waste", "_came", "_parse", "_go_on", "_count_waste"}
ATTRIBUTES: dict[str, Any] = {
    "loop": asyncio.AbstractEventLoop,
    "conn": ServerProtocol,
    "transport": type(None),  # until there is a connection
    "queue": asyncio.Queue,
    "writable": asyncio.Event,
    "read_paused": bool,
    "close_sent": bool,
    "frames": list,
    "curr_msg_data_type": str,
    "ping_timeout": float,
    "pong_timer": type(None),  # until a ping is sent
}
METHODS = {
    "__init__": ["self", "config", "server_state", "app_state", "_loop"],
    "data_received": ["self", "data"],
    "send_receive_event_to_app": ["self"],
    "receive": ["self"],
    "send": ["self", "message"],
    "keepalive_timeout": ["self"],
    "handle_ping": ["self"],
    "handle_pong": ["self", "event"],
    "handle_cont": ["self", "event"],
    "handle_parser_exception": ["self"],
}
CALLED_BY_UVICORN = {
    "data_received": "handle_events",
    "handle_events": "handle_ping handle_pong handle_cont handle_text handle_bytes",
    "handle_cont": "send_receive_event_to_app",
    "send_receive_event_to_app": "read_paused pause_reading",
    "send_keepalive_ping": "pong_timer ping_timeout keepalive_timeout",
}
"""What uvicorn's methods must mention for ours to be called."""


async def test_uvicorn_still_has_what_we_lean_on() -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(FairWebSocket)))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    }
    overridden = {name for name, value in vars(FairWebSocket).items() if inspect.isfunction(value)}
    assert (used | overridden) - OURS == {*ATTRIBUTES, *METHODS}, "the tables name all of it"
    config = uvicorn.Config(echo, ws_ping_timeout=20.0, log_config=None)
    config.load()
    base = WebSocketsSansIOProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    for name, kind in ATTRIBUTES.items():
        assert isinstance(getattr(base, name), kind), name
    for name, parameters in METHODS.items():
        assert list(inspect.signature(getattr(WebSocketsSansIOProtocol, name)).parameters) == parameters, name
    for name, mentioned in CALLED_BY_UVICORN.items():
        source = inspect.getsource(getattr(WebSocketsSansIOProtocol, name))
        assert [word for word in mentioned.split() if word not in source] == [], name
