"""A WebSocket client inside the process: speaks ASGI to the application, on virtual time."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from tests.support.virtual_time import InlineExecutor
from vita_duplex.config import Config
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.pool import Pool
from vita_duplex.server.audio.formats import encode_pcm16
from vita_duplex.server.http.app import create_app
from vita_duplex.server.parts import Parts
from vita_duplex.server.server import Server
from vita_duplex.tts.text.normaliser import Normaliser
from vita_duplex.tts.voices.scripted import HummingVoice
from vita_duplex.vad.detector import Detector
from vita_duplex.vad.scripted import LevelVad

Json = dict[str, Any]
LIMITS = {"verdict_deadline_ms": 1500, "first_limit_s": 1.2, "stall_limit_s": 0.8}
"""Of a machine whose engines have cores or GPUs of their own."""


def scripted_server(*replies: ScriptedReply, instances: int = 2, **config: Any) -> Server:
    """A server whose scripted parts are there already. No echo guard: a tone over a hum is no speech to a canceller."""
    config["duplex"] = {**LIMITS, **config.get("duplex", {})}
    config["vad"] = {"echo": {"guard": False}, **config.get("vad", {})}
    server = Server(Config.model_validate({"engine": {"kind": "scripted"}, **config}))
    pool = Pool([ScriptedInstance(name, replies or (ScriptedReply(),)) for name in "abcd"[:instances]])
    normaliser, detector = Normaliser(InlineExecutor()), Detector(LevelVad(), InlineExecutor())
    server.parts = Parts(
        server.config,
        {server.config.model_name: pool},
        {server.config.tts.name: HummingVoice()},
        None,
        normaliser,
        detector,
        echo_executor=InlineExecutor(),
    )
    return server


class Socket:
    """The client's end."""

    def __init__(self) -> None:
        self.events: list[Json] = []
        self.frames: list[bytes] = []
        """Binary ones."""
        self.times: list[float] = []
        self.closed: tuple[int, str] | None = None
        self.denied: int | None = None
        """HTTP status with which the handshake was refused."""
        self.subprotocol: str | None = None
        self.reads = True
        """A client that does not read makes the server's `send` wait for ever."""
        self.broken = False
        """The web server has closed the connection, and says so when something is sent."""
        self._to_server: asyncio.Queue[Json] = asyncio.Queue()
        self._changed = asyncio.Condition()

    async def receive(self) -> Json:
        return await self._to_server.get()

    async def send(self, message: Json) -> None:
        if message["type"] == "websocket.send" and not self.reads:
            await asyncio.Event().wait()
        if self.broken:
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r}")
        match message["type"]:
            case "websocket.accept":
                self.subprotocol = message.get("subprotocol")
            case "websocket.send":
                if message.get("bytes") is not None:
                    self.frames.append(message["bytes"])
                else:
                    self.events.append(json.loads(message["text"]))
                self.times.append(asyncio.get_running_loop().time())
            case "websocket.http.response.start":
                self.denied = message["status"]
            case "websocket.http.response.body":
                self.events.append({"type": "denied", **json.loads(message["body"])})
            case "websocket.close":
                self.closed = (message["code"], message.get("reason", ""))
        async with self._changed:
            self._changed.notify_all()

    def put(self, event: Json | str | bytes) -> None:
        """Send an event, a raw text frame or a binary frame."""
        if isinstance(event, bytes):
            self._to_server.put_nowait({"type": "websocket.receive", "bytes": event})
        else:
            text = event if isinstance(event, str) else json.dumps(event)
            self._to_server.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self, code: int = 1006) -> None:
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": code})

    async def until(self, kind: str, number: int = 1, limit_s: float = 60) -> Json:
        """Wait for the `number`-th event of a kind."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: len(self.all(kind)) >= number)
        return self.all(kind)[number - 1]

    async def some(self, limit_s: float = 5) -> None:
        """Wait for anything."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: self.events)

    def all(self, kind: str) -> list[Json]:
        return [event for event in self.events if event["type"] == kind]

    def item(self, kind: str, number: int) -> str:
        """The id that the server gives to an item of this session."""
        return f"item_{kind}_{number}_{self.all('session.created')[0]['session']['id'][-8:]}"

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def say(self, samples: Samples, rate: int = 24_000, *, binary: bool = False) -> None:
        """Send audio in 20 ms frames at the pace of speech."""
        frame = rate // 50
        for start in range(0, len(samples), frame):
            data = encode_pcm16(samples[start : start + frame])
            self.put(
                data if binary else {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}
            )
            await asyncio.sleep(0.02)

    async def speak(self, seconds: float = 1.0, rate: int = 24_000, *, binary: bool = False) -> None:
        """Something loud, then enough silence to end it."""
        time = np.arange(int(seconds * rate)) / rate
        loud = (0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
        await self.say(np.concatenate([loud, np.zeros(int(0.65 * rate), np.float32)]), rate, binary=binary)

    def audio(self, response_id: str) -> Samples:
        data = b"".join(
            base64.b64decode(event["delta"])
            for event in self.all("response.output_audio.delta")
            if event["response_id"] == response_id
        )
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768


@asynccontextmanager
async def connected(
    server: Server,
    query: str = "vita_events=true&pauses=true&queue=true",
    subprotocols: tuple[str, ...] = (),
    at_end: Callable[[], None] = lambda: None,
    headers: Mapping[str, str] | None = None,
    path: str = "/v1/realtime",
) -> AsyncIterator[Socket]:
    """Connect; on leaving, the client vanishes and the handler must come to its end."""
    socket = Socket()
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "client": ("127.0.0.1", 50_000),
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "extensions": {"websocket.http.response": {}},
        "subprotocols": list(subprotocols),
    }
    connect = {"type": "websocket.connect"}
    socket._to_server.put_nowait(connect)
    handling = asyncio.create_task(create_app(server)(scope, socket.receive, socket.send))
    try:
        yield socket
    finally:
        socket.leave()
        async with asyncio.timeout(60):  # a session that can be resumed is kept for 30 s
            await handling
        at_end()
