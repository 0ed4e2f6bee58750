"""Connections that never finish their request, and requests that two parsers would read differently."""

import asyncio

import pytest

from tests.support.serving import serving
from tests.support.sockets import scripted_server
from tests.support.virtual_time import run
from vita_duplex.server.http import patience
from vita_duplex.server.http.patience import HEAD_S

PATIENCE_S = 0.01
"""Of the virtual clock, for the kernel; uvicorn looks round ten times a second."""
BODY_S = 15.0
"""In the place of the real one, to save 3000 looks."""


@pytest.fixture(autouse=True)
def short_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "BODY_S", BODY_S)


HALF_A_HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HEALTH = HALF_A_HEAD + b"\r\n"
BODY = (
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)


def lasted(*pieces: bytes, every_s: float = 0.0) -> float:
    """Seconds until the server closes a connection whose client sends these pieces, and then nothing or the last
    byte over and over."""

    async def script() -> float:
        clock = asyncio.get_running_loop().time
        async with serving(scripted_server()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began = clock()
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.5)
            reading = asyncio.create_task(reader.read())
            while every_s and not reading.done() and clock() - began < 30:
                await asyncio.sleep(every_s)
                writer.write(b"x")
            await asyncio.wait_for(reading, 30)
            writer.close()
            return clock() - began

    return run(script(), patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("pieces", "limit_s"),
    [
        ((), HEAD_S),
        ((HALF_A_HEAD,), HEAD_S),
        ((HEALTH, HALF_A_HEAD), HEAD_S),
        ((BODY,), BODY_S),
    ],
    ids=["nothing", "half a head", "half a second head", "no body"],
)
def test_a_request_that_does_not_end_is_not_waited_for(pieces: tuple[bytes, ...], limit_s: float) -> None:
    assert lasted(*pieces) == pytest.approx(limit_s, abs=1)


def test_a_head_that_trickles_in_wins_no_time() -> None:
    assert lasted(HALF_A_HEAD, b"X-Slow: ", every_s=2) == pytest.approx(HEAD_S, abs=1)


def test_a_websocket_is_not_closed_for_being_an_unfinished_request() -> None:
    async def script() -> None:
        async with serving(scripted_server()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            reading = asyncio.create_task(reader.read())
            pong = b"\x8a\x80\x00\x00\x00\x00"
            for _ in range(3):
                await asyncio.sleep(BODY_S / 3)
                writer.write(pong)
            await asyncio.sleep(HEAD_S)
            assert not reading.done()
            writer.close()
            await reading

    run(script(), patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Content-Length: +4\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"X: y\r\n  Content-Length: 4\r\n Transfer-Encoding\x00: chunked\r\n",
    ],
)
async def test_a_request_with_two_readings_is_refused_and_the_connection_closed(smuggled: bytes) -> None:
    async with serving(scripted_server()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\n" + smuggled + b"\r\nabcd" + HEALTH)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
        writer.close()
