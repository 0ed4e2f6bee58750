"""Calls over AudioSocket: TCP within the process, on virtual time."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import numpy as np
import pytest

from tests.support.served import free_port
from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.cli.main import main
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.auth import hashed
from vita_duplex.server.audio.formats import encode_pcm16
from vita_duplex.server.audio.playout import Playout, PlayoutFrame
from vita_duplex.server.server import Server
from vita_duplex.server.telephony.audiosocket import listening

LONG = ScriptedReply(text=" ".join("abcdefghij"[n % 10] * 5 for n in range(60)) + ".")
SHORT = ScriptedReply(text="It is short.")
NOISE = ScriptedReply(p1=0.05)
KERNEL_S = 0.005
SILENCE = b"\0" * 320


class Call:
    """Asterisk's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.frames: list[tuple[float, int, bytes]] = []
        """Time, type and payload."""
        self.over = False
        self._reader = reader
        self._writer = writer

    def put(self, kind: int, payload: bytes = b"") -> None:
        self._writer.write(struct.pack(">BH", kind, len(payload)) + payload)

    def put_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def listen(self) -> None:
        try:
            while True:
                kind, length = struct.unpack(">BH", await self._reader.readexactly(3))
                payload = await self._reader.readexactly(length)
                self.frames.append((asyncio.get_running_loop().time(), kind, payload))
        except (OSError, EOFError):
            self.over = True

    async def say(self, samples: Samples) -> None:
        data = encode_pcm16(samples)
        for start in range(0, len(data), 320):
            self.put(0x10, data[start : start + 320])
            await asyncio.sleep(0.02)

    async def speak(self, seconds: float = 1.0) -> None:
        time = np.arange(int(seconds * 8000)) / 8000
        await self.say((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32))

    async def be_silent(self, seconds: float) -> None:
        await self.say(np.zeros(int(seconds * 8000), np.float32))

    async def reply_begins(self) -> None:
        before = len(self.heard)
        for _ in range(100):
            await self.be_silent(0.1)
            if len(self.heard) > before:
                return
        raise AssertionError("nothing is heard")

    @property
    def heard(self) -> list[tuple[float, bytes]]:
        return [(time, payload) for time, kind, payload in self.frames if kind == 0x10]


@asynccontextmanager
async def calling(server: Server, call: UUID | bytes | None = None) -> AsyncIterator[Call]:
    address = server.config.telephony.audiosocket
    assert address is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    client = Call(reader, writer)
    listening_task = asyncio.create_task(client.listen())
    given = uuid4() if call is None else call
    client.put(0x01, given.bytes if isinstance(given, UUID) else given)
    try:
        yield client
    finally:
        writer.close()
        await listening_task


def line(*replies: ScriptedReply, **config: object) -> Server:
    return scripted_server(*replies, telephony={"audiosocket": f"127.0.0.1:{free_port()}"}, **config)


async def quiet(server: Server) -> None:
    """Nothing of the calls is left."""
    await asyncio.sleep(3)
    assert server.sessions == 0


def test_a_call_is_answered_interrupted_and_hung_up() -> None:
    async def script() -> None:
        server = line(LONG, SHORT)
        async with listening(server):
            async with calling(server) as call:
                await call.speak()
                await call.reply_begins()
                began = asyncio.get_running_loop().time()
                await call.speak(0.6)
                last = call.heard[-1][0]
                assert last - began <= 0.2, "after the first loud frame"
                await call.reply_begins()
                times = [time for time, _ in call.heard]
                assert min(np.diff(times)) > 0.015, "frames come at their pace, never in a heap"
                call.put(0x00)
                await asyncio.sleep(0.5)
                assert call.over
                assert call.frames[-1][1:] == (0x00, b"")
            await quiet(server)

    run(script(), patience_s=KERNEL_S)


def test_a_held_reply_goes_on_at_the_very_frame() -> None:
    async def heard(*, interrupted: bool) -> list[bytes]:
        server = line(LONG, NOISE)
        async with listening(server):
            async with calling(server) as call:
                await call.speak()
                await call.reply_begins()
                if interrupted:
                    await call.speak(0.5)
                await call.be_silent(30)
            await quiet(server)
            return [payload for _, payload in call.heard if payload != SILENCE]

    async def script() -> None:
        whole, held = await heard(interrupted=False), await heard(interrupted=True)
        assert len(whole) > 500
        assert held == whole

    run(script(), patience_s=KERNEL_S)


KEY = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")


@pytest.mark.parametrize(("given", "comes_in"), [(KEY, True), (uuid4(), False), (KEY.bytes[:15], False), (b"", False)])
def test_the_uuid_is_the_key(given: UUID | bytes, comes_in: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def script() -> None:
        server = line(SHORT, access={"keys": {"pbx": hashed(str(KEY))}})
        async with listening(server):
            async with calling(server, given) as call:
                await asyncio.sleep(1)
                assert server.sessions == comes_in
                assert call.over is not comes_in
            await quiet(server)

    with caplog.at_level(logging.WARNING):
        run(script(), patience_s=KERNEL_S)
    assert len(caplog.records) == (not comes_in)
    assert str(KEY) not in caplog.text


def test_the_command_line_makes_such_a_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["vita-duplex", "key", "pbx", "--uuid"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    key, *_, line = capsys.readouterr().out.splitlines()
    assert str(UUID(key)) == key
    assert line == f"pbx: {hashed(key)}"


@pytest.mark.parametrize(
    ("kind", "payload", "code"),
    [
        (0x10, b"\0" * 321, "invalid_audio"),
        (0x12, b"\0" * 640, "invalid_value"),
        (0x77, b"", "invalid_value"),
        (0x03, b"12", "invalid_value"),
        (0x03, b"", "invalid_value"),
        (0x03, b"E", "invalid_value"),
    ],
)
def test_a_frame_that_cannot_be_understood_is_told_and_the_call_lives(kind: int, payload: bytes, code: str) -> None:
    async def script() -> None:
        server, name = line(SHORT), uuid4()
        async with listening(server):
            async with calling(server, name) as call:
                await asyncio.sleep(0.1)
                async with connected(server, f"call_id={name}") as application:
                    call.put(kind, payload)
                    error = await application.until("error")
                    assert error["error"]["code"] == code
                    call.put(0x03, b"*")
                    pressed = await application.until("input_audio_buffer.dtmf_event_received")
                    assert pressed["event"] == "*"
                    await call.speak()
                    await call.reply_begins()
            await quiet(server)

    run(script(), patience_s=KERNEL_S)


@pytest.mark.parametrize("data", [b"", b"\x10\x01", struct.pack(">BH", 0x10, 320) + b"\0" * 100])
def test_a_line_that_breaks_leaves_nothing(data: bytes) -> None:
    async def script() -> None:
        server = line(SHORT)
        async with listening(server):
            async with calling(server) as call:
                await asyncio.sleep(0.1)
                assert server.sessions == 1
                call.put_raw(data)
            await quiet(server)

    run(script(), patience_s=KERNEL_S)


def test_who_says_nothing_is_hung_up_on() -> None:
    async def script() -> None:
        server = line(SHORT)
        async with listening(server):
            reader, writer = await asyncio.open_connection(*(server.config.telephony.audiosocket or "").split(":"))
            assert await asyncio.wait_for(reader.read(), 15) == b"\0\0\0"
            writer.close()
            await quiet(server)

    run(script(), patience_s=KERNEL_S)


def test_a_port_that_is_taken_ends_the_server() -> None:
    async def script() -> None:
        server = line(SHORT)
        async with listening(server), listening(server):
            assert "cannot listen on 127.0.0.1" in (server.loading.error or "")

    run(script(), patience_s=KERNEL_S)


def test_what_is_played_out_waits_while_it_is_held() -> None:
    playout = Playout(4)
    assert playout.take() is None
    playout.add(1, b"abcdef")
    assert playout.take() == PlayoutFrame(1, b"abcd", 4)
    playout.hold()
    assert playout.take() is None
    playout.resume()
    assert playout.take() == PlayoutFrame(1, b"ef\0\0", 6)
    playout.add(1, b"ghij")
    playout.drop()
    assert playout.take() is None
    playout.add(1, b"k")
    playout.add(2, b"lmno")
    assert playout.take() == PlayoutFrame(2, b"lmno", 4)
