"""Asterisk's AudioSocket: calls over plain TCP, 16 bit samples at 8 kHz, without a cloud.

Reference: Asterisk's documentation, "AudioSocket". A frame is a type (1 byte), a length (2 bytes, big endian) and so
many bytes; the first one is the UUID that the dial plan gives the call.
"""

import asyncio
import logging
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from vita_duplex.engine.notices import Notice, TurnEnded, TurnHeld, TurnResumed
from vita_duplex.server.access.auth import Caller, Credentials, Denied
from vita_duplex.server.audio.formats import pcm
from vita_duplex.server.audio.playout import Playout
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.connection import CLOSE_S, Ended
from vita_duplex.server.realtime.event_writer import AUDIO_HEADER
from vita_duplex.server.realtime.seat import NoSeat, converse, place
from vita_duplex.server.realtime.transport import ClientKind, Farewell, FromClient, KeyPressed, Take
from vita_duplex.server.server import Server

log = logging.getLogger(__name__)

HANG_UP, CALL_ID, DIGIT, AUDIO, ERROR = 0x00, 0x01, 0x03, 0x10, 0xFF
HEADER = struct.Struct(">BH")
CALL_ID_S = 10.0
"""Asterisk sends the UUID at once."""
FRAME_S = 0.02
FRAME_BYTES = 320
LATE_S = 0.1
"""Frames that are later than this are not caught up with: Asterisk would queue them, and the caller hear them late."""
TELEPHONE = ClientKind(binary_audio=True, pauses=True, wire_in=pcm(8000), wire_out=pcm(8000))


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[None]:
    """Take calls meanwhile, if the settings say where."""
    address = server.config.telephony.audiosocket
    if address is None:
        yield
        return
    host, port = server.config.telephony.audiosocket_host, address.rpartition(":")[2]

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(server, reader, writer)

    try:
        listener = await asyncio.start_server(answer_one, host, int(port))
    except OSError as error:
        server.fail(f"telephony.audiosocket: cannot listen on {address}: {error.strerror}")
        yield
        return
    async with listener:
        yield


async def answer(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one call to its end."""
    try:
        call = await _read_call_id(reader)
        caller = _admit(server, call)
        with place(server, caller, None, may_wait=False):
            await converse(server, caller, None, AudioSocket(reader, writer), TELEPHONE, call=str(call))
    except (ClientError, Denied) as error:
        _refuse(server, error.code, error.message)
    except NoSeat as none:
        _refuse(server, none.refusal.code, none.refusal.message)
    except (OSError, EOFError):
        pass  # gone before its session began
    finally:
        await hang_up(writer)


def _refuse(server: Server, code: str, message: str) -> None:
    server.metrics.refusal(code)
    log.warning("a call is refused: %s", message)


async def _read_call_id(reader: asyncio.StreamReader) -> UUID:
    """Errors: `ClientError`, `OSError`, `EOFError`."""
    try:
        async with asyncio.timeout(CALL_ID_S):
            kind, payload = await read_frame(reader)
    except TimeoutError as late:
        raise ClientError("uuid_expected", f"No UUID came in {CALL_ID_S:.0f} s.") from late
    if kind != CALL_ID or len(payload) != 16:
        raise ClientError("uuid_expected", "A call begins with its UUID of 16 bytes.")
    return UUID(bytes=payload)


def _admit(server: Server, call: UUID) -> Caller:
    """The dial plan's UUID is the API key: AudioSocket has no place for another. Errors: `Denied`."""
    return server.access.admit(Credentials(f"Bearer {call}"), time.time())


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Type and payload. Errors: `OSError`, `EOFError`."""
    kind, length = HEADER.unpack(await reader.readexactly(HEADER.size))
    return kind, await reader.readexactly(length)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            writer.write(HEADER.pack(HANG_UP, 0))
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    except (TimeoutError, OSError):
        writer.transport.abort()


class AudioSocket:
    """The transport of a call."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = 1
        self.closed = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._playout = Playout(FRAME_BYTES)
        self._ended = asyncio.Event()

    @property
    def unread(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def tell(self, notice: Notice) -> None:
        match notice:
            case TurnHeld():
                self._playout.hold()
            case TurnResumed():
                self._playout.resume()
            case TurnEnded(status="cancelled"):
                self._playout.drop()
            case _:
                pass

    def send(self, data: str | bytes, size: int) -> None:
        if isinstance(data, bytes):
            turn, _ = AUDIO_HEADER.unpack_from(data)
            self._playout.add(turn, data[AUDIO_HEADER.size :])

    def end(self, farewell: Farewell, *, flushed: bool) -> None:
        self._ended.set()

    async def run(self, take: Take) -> bool:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wait(), name="cut")
                tasks.create_task(self._play(), name="play")
                tasks.create_task(self._read(take), name="read")
        except* (Ended, OSError, EOFError):
            pass
        finally:
            self.closed.set()
        return True

    async def close(self, farewell: Farewell) -> None:
        await hang_up(self._writer)

    async def _wait(self) -> None:
        await self._ended.wait()
        raise Ended(left=True)

    async def _play(self) -> None:
        now = asyncio.get_running_loop().time
        due = now()
        while True:
            if frame := self._playout.take():
                self._writer.write(HEADER.pack(AUDIO, FRAME_BYTES) + frame.data)
            due = max(due + FRAME_S, now() - LATE_S)
            await asyncio.sleep(due - now())

    async def _read(self, take: Take) -> None:
        while True:
            kind, payload = await read_frame(self._reader)
            await take(self._understand(kind, payload))

    def _understand(self, kind: int, payload: bytes) -> FromClient:
        if kind == AUDIO:
            return payload  # of a length that is checked where it is decoded
        if kind == DIGIT and len(payload) == 1 and payload in b"0123456789*#ABCD":
            return KeyPressed(payload.decode())
        if kind == ERROR:
            log.warning("Asterisk reports error %s", payload.hex())
        if kind in (HANG_UP, ERROR):
            raise Ended(left=True)
        return ClientError("invalid_value", f"A frame of type {kind:#04x} and {len(payload)} bytes.")
