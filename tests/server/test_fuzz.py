"""A hundred thousand hostile messages: each is answered once, the session goes on, and so does everybody else's."""

import asyncio
import gc
import json
import logging
import random
import struct
from collections import Counter
from contextlib import suppress
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import connect

from tests.support.hostile import Hostile
from tests.support.seed import SEED
from tests.support.serving import serving
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.realtime import presence
from vita_duplex.server.realtime.client_events import SUPPORTED
from vita_duplex.server.server import Server

SHORT = ScriptedReply(transcript="what is it", text="It is short.", verdict_s=0.01, token_s=0.01)
NOISE = SHORT.model_copy(update={"p1": 0.1})
CONTENT = [{"type": "input_text", "text": "And now?"}]
QUESTION = {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": CONTENT}}
BATCH = 50
SESSION = 2000
"""Messages of one session."""
ANSWERED_BY = {
    "session.update": ("session.updated",),
    "session.heartbeat": ("session.heartbeat",),
    "input_audio_buffer.clear": ("input_audio_buffer.cleared",),
    "conversation.item.create": ("conversation.item.added",),
    "conversation.item.retrieve": ("conversation.item.retrieved",),
    "conversation.item.delete": ("conversation.item.deleted",),
    "conversation.item.truncate": ("conversation.item.truncated",),
}
"""What each event is answered with at once, unless it is refused."""
LATE = ("input_audio_buffer_commit_rejected",)
"""Refusals that come with a verdict, and so among the answers to a later event."""
FALLIBLE = (
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
    "playback.ack",
    "input_audio_buffer.commit",  # with turn detection the verdict on what was being said comes first
    "input_audio_buffer.append",
    "vita.utterance.accept",
    "vita.utterance.reject",
)
"""Those that are refused at once, or answered later or by silence."""


def read(frame: str | bytes) -> Any:
    """What is in a text frame; None if that is not JSON."""
    try:
        return json.loads(frame) if isinstance(frame, str) else None
    except (ValueError, RecursionError):
        return None


def check(frame: str | bytes, answers: list[Json]) -> str:
    """Whether a frame was answered as it should be; what became of it."""
    message = read(frame)
    fields = message if isinstance(message, dict) else {}
    kind = fields.get("type")
    refusals = [
        one["error"]
        for one in answers
        if one["type"] == "error" and one["error"]["type"] != "server_error" and one["error"]["code"] not in LATE
    ]
    assert len(refusals) <= 1, (frame, refusals)
    if refusals:
        assert refusals[0]["message"]
        event_id, unreadable = fields.get("event_id"), refusals[0]["code"] == "invalid_json"
        if isinstance(event_id, str) and not (unreadable and "\\" in json.dumps(event_id)):
            assert refusals[0]["event_id"] in (event_id, event_id[:200]), frame
        return str(refusals[0]["code"])
    if isinstance(frame, bytes):
        return "heard"
    assert isinstance(kind, str), frame
    assert kind in (*ANSWERED_BY, *FALLIBLE), frame
    if kind in ANSWERED_BY:
        assert any(one["type"] in ANSWERED_BY[kind] for one in answers), frame
    return "taken"


class Attack:
    """Hostile messages to one session, each followed by one that marks the end of its answers."""

    def __init__(self, socket: Socket, hostile: Hostile, pauses: random.Random, *, beats: bool = False) -> None:
        """`beats`: send heartbeats, as it may have promised in a hostile message."""
        self.fates: Counter[str] = Counter()
        self._socket = socket
        self.hostile = hostile
        self._pauses = pauses
        self._beats = beats
        self._asked = 0
        self._responses = 0

    async def batch(self, count: int) -> None:
        frames = [self.hostile.frame() for _ in range(count)]
        self._socket.events.clear()
        self._responses = 0
        for number, frame in enumerate(frames):
            self._socket.put(frame)
            self._socket.put({"type": "conversation.item.retrieve", "event_id": f"end {number}", "item_id": "nowhere"})
            if self._pauses.random() < 0.2:
                await asyncio.sleep(self._pauses.choice((0.001, 0.05, 0.7)))
        await self._until(lambda: any(_ends(one, count - 1) for one in self._socket.events))
        rest = list(self._socket.events)
        for number, frame in enumerate(frames):
            end = next(place for place, one in enumerate(rest) if _ends(one, number))
            fate = check(frame, rest[:end])
            self.fates[fate] += 1
            self._responses += fate == "taken" and read(frame)["type"] == "response.create"
            rest = rest[end + 1 :]

    async def ask(self) -> None:
        """A good question gets its answer, whatever was set and left lying about; so has every response asked for."""
        socket, name = self._socket, f"question {self._asked}"
        self._asked += 1
        asked: Json = {"output_modalities": ["text"], "max_output_tokens": "inf", "metadata": {"name": name}}
        await asyncio.sleep(1.5)  # a cancel right behind an interruption would mean the reply that was interrupted
        socket.put({"type": "response.cancel"})
        socket.put({"type": "response.create", "response": asked | {"instructions": "Say yes.", "metadata": {}}})
        await asyncio.sleep(2)  # what waited is answered now
        socket.put(QUESTION)
        socket.put({"type": "response.create", "response": asked})
        done = await self._until(lambda: [one for one in socket.all("response.done") if _named(one, name)])
        [response] = [one["response"] for one in done]
        assert (response["status"], response["output"][0]["content"][0]["text"]) == ("completed", SHORT.text)
        begun, over = (
            Counter(one["response"]["id"] for one in socket.all(f"response.{what}")) for what in ("created", "done")
        )
        assert len(begun) >= self._responses + 2
        assert set(begun.values()) == {1}
        assert over.total() == len(over)
        assert set(begun) <= set(over)

    async def _until(self, seen: Any) -> Any:
        """Patiently: a client that has stopped sending in mid-speech is waited for."""
        for tenth in range(600):
            if found := seen():
                return found
            assert self._socket.closed is None, "the session was ended"
            if self._beats and tenth % 50 == 0:
                self._socket.put({"type": "session.heartbeat"})
            await asyncio.sleep(0.1)
        raise AssertionError("the session is stuck")


def _ends(event: Json, number: int) -> bool:
    return event["type"] == "error" and event["error"]["event_id"] == f"end {number}"


def _named(event: Json, name: str) -> bool:
    return (event["response"]["metadata"] or {}).get("name") == name


async def attack(server: Server, seed: int, count: int) -> Counter[str]:
    async with connected(server) as socket, connected(server) as other:
        assault = Attack(socket, Hostile(seed), random.Random(seed), beats=True)
        bystander = Attack(other, Hostile(seed), random.Random(seed))
        for client, one in ((socket, assault), (other, bystander)):
            one.hostile.tail = "_" + (await client.until("session.created"))["session"]["id"][-8:]
        for _ in range(count // BATCH):
            await assault.batch(BATCH)
            await assault.ask()
            await bystander.ask()
            assert {one["error"]["code"] for one in other.all("error")} == {"response_cancel_not_active"}
    assert server.sessions == 0
    return assault.fates


@pytest.fixture(autouse=True)
def any_number_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "ERRORS_BURST", 1e9)


def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads know no virtual time."""

    async def inline(work: Any, *args: Any) -> Any:
        return work(*args)

    monkeypatch.setattr(asyncio, "to_thread", inline)


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_hostile_messages_are_answered_once_each_and_the_session_goes_on(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_threads(monkeypatch)
    fates = run(attack(scripted_server(SHORT, NOISE), seed, 2 * BATCH))
    assert fates.total() == 2 * BATCH
    assert fates["taken"] > 10
    assert fates["invalid_json"] > 2
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.long
def test_a_hundred_thousand_hostile_messages_leave_the_server_as_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_threads(monkeypatch)
    objects, fates = list[int](), Counter[str]()

    async def script() -> None:
        server = scripted_server(SHORT, NOISE)
        for seed in range(SEED, SEED + 100_000 // SESSION):
            fates.update(await attack(server, seed, SESSION))
            gc.collect()
            objects.append(len(gc.get_objects()))

    run(script())
    assert fates.total() == 100_000
    assert {*ANSWERED_BY, *FALLIBLE} == set(SUPPORTED)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert objects[-1] < objects[len(objects) // 3] + 2000, "less than an object for thirty messages"


# ── frames, over real sockets ──────────────────────────────────────────────────────────

HANDSHAKE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def framed(first: int, payload: bytes, *, length: int | None = None, masked: bool = True) -> bytes:
    """A frame of RFC 6455 section 5.2, with the first byte, the length and the mask bit as wished; the mask is zero."""
    head = bytes([first, (0x80 if masked else 0) | 127]) + struct.pack(">Q", len(payload) if length is None else length)
    return head + (bytes(4) if masked else b"") + payload


def short(first: int, payload: bytes) -> bytes:
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


HALF = framed(0x81, b"{" * 100, length=1000)
FRAMES: dict[str, tuple[bytes, int | None]] = {
    "truncated UTF-8": (short(0x81, "né".encode()[:-1]), 1007),
    "bytes that are no text": (short(0x81, b'{"type":"\xff\xfe"}'), 1007),
    "a surrogate in UTF-8": (short(0x81, b"\xed\xa0\x80"), 1007),
    "20 MB": (framed(0x82, b"", length=20_000_000), 1009),
    "20 MB in fragments": (
        framed(0x02, bytes(10_000_000)) + framed(0x80, bytes(10_000_000)), 1009,
    ),
    "a length beyond 63 bits": (framed(0x82, b"", length=2**64 - 1), 1009),
    "no mask": (framed(0x81, b"{}", masked=False), 1002),
    "a reserved bit": (short(0xC1, b"{}"), 1002),
    "an opcode that is none": (short(0x83, b"{}"), 1002),
    "a continuation of nothing": (short(0x80, b"{}"), 1002),
    "a new message inside another": (short(0x01, b"{") + short(0x81, b"{}"), 1002),
    "a fragmented ping": (short(0x09, b""), 1002),
    "a long ping": (bytes([0x89, 0xFE, 0x00, 0x80]) + bytes(4 + 128), 1002),
    "a close with one byte": (short(0x88, b"\x03"), 1002),
    "a close with a code that is none": (short(0x88, struct.pack(">H", 999)), 1002),
    "half a frame": (HALF, None),
    "the handshake again": (HANDSHAKE, 1002),
    "zeros": (bytes(1000), 1002),
}  # fmt: skip
"""What is sent, and the close code of the answer (RFC 6455 section 7.4.1); None if there is none."""


async def close_code(port: int, data: bytes) -> int | None:
    """Send it into a session of its own; the code with which the server closes, None if it waits for more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(HANDSHAKE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    code = None
    with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        async with asyncio.timeout(0.3 if data == HALF else 60):
            writer.write(data)
            while True:
                first, size = await reader.readexactly(2)
                if size > 125:
                    size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
                payload = await reader.readexactly(size)
                if first == 0x88:
                    code = int.from_bytes(payload[:2], "big")
    writer.transport.abort()
    return code


async def question(port: int) -> None:
    """A session of somebody else's."""
    async with asyncio.timeout(60), connect(f"ws://127.0.0.1:{port}/v1/realtime") as client:
        await client.send(json.dumps(QUESTION))
        await client.send(json.dumps({"type": "response.create", "response": {"output_modalities": ["text"]}}))
        while json.loads(await client.recv())["type"] != "response.done":
            pass


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
async def test_broken_frames_end_their_own_connection_only(rounds: int, caplog: pytest.LogCaptureFixture) -> None:
    server, process = scripted_server(SHORT, NOISE), psutil.Process()
    async with serving(server) as port:
        await question(port)
        files = process.num_fds()
        for number in range(rounds):
            for name, (data, code) in FRAMES.items():
                assert await close_code(port, data) == code, name
            await question(port)
            dice = random.Random(SEED + number)
            for _ in range(100):
                data = b"".join(data for data, _ in dice.choices(list(FRAMES.values()), k=3) if len(data) < 2000)
                writer = (await asyncio.open_connection("127.0.0.1", port))[1]
                writer.write(HANDSHAKE + bytes(byte ^ (dice.random() < 0.02) for byte in data))
                writer.transport.abort() if dice.random() < 0.5 else writer.close()
            await question(port)
        async with asyncio.timeout(60):
            while server.sessions or process.num_fds() > files:  # noqa: ASYNC110 - anything may be left
                await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.long
async def test_hostile_messages_over_a_real_socket_are_answered_as_in_the_process() -> None:
    hostile = Hostile(SEED)
    async with serving(scripted_server(SHORT, NOISE)) as port:
        url = f"ws://127.0.0.1:{port}/v1/realtime?vita_events=true&pauses=true&queue=true"
        async with connect(url, max_size=None) as client:
            for number in range(2000):
                frame = hostile.frame()
                if isinstance(frame, str):
                    frame = frame.encode("utf-8", "replace").decode()
                await client.send(frame)
                end = {"type": "conversation.item.retrieve", "event_id": f"end {number}", "item_id": "nowhere"}
                await client.send(json.dumps(end))
                answers = [json.loads(await client.recv())]
                while not _ends(answers[-1], number):
                    answers.append(json.loads(await client.recv()))
                check(frame, answers[:-1])
        await question(port)
