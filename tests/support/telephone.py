"""The provider's end of a telephone call, in the process and on virtual time: it plays what it is sent."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from tests.support.sockets import Json, Socket, connected
from vita_duplex.engine.audio import Samples
from vita_duplex.server.audio.formats import PCMU
from vita_duplex.server.server import Server

STREAM, CALL = "MZ18ad3ab5a668481ce02b83e7395059f0", "CAa1b2c3"
SILENT = b"\xff"
FRAME = 160  # bytes in 20 ms

MESSAGES: Mapping[str, Any] = {
    "twilio": lambda parameters: [
        {"event": "connected", "protocol": "Call", "version": "1.0.0"},
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": "AC1",
                "streamSid": STREAM,
                "callSid": CALL,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": parameters,
            },
            "streamSid": STREAM,
        },
    ],
    "telnyx": lambda parameters: [
        {"event": "connected", "version": "1.0.0"},
        {
            "event": "start",
            "sequence_number": "1",
            "start": {
                "user_id": "3E6F",
                "call_control_id": CALL,
                "custom_parameters": parameters,
                "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
            },
            "stream_id": STREAM,
        },
    ],
    "plivo": lambda parameters: [
        {
            "event": "start",
            "sequenceNumber": 0,
            "start": {
                "callId": CALL,
                "streamId": STREAM,
                "accountId": "1",
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
            },
            "extra_headers": "{" + ", ".join(f'"X-PH-{name}": "{value}"' for name, value in parameters.items()) + "}",
        }
    ],
}
"""What a provider says first, as its documentation shows it."""


class Telephone:
    """Speaks, plays, sends marks back."""

    def __init__(self, socket: Socket, provider: str) -> None:
        self.socket = socket
        self.heard = bytearray()
        """One byte for each sample that passed, from the beginning of the call."""
        self.clears: list[float] = []
        """When the line was told to clear."""
        self.leaves = True
        self._provider = provider
        self._unplayed: list[tuple[str, bytes]] = []
        self._chunk = 0
        self._read = 0

    def put(self, event: str, **fields: Any) -> None:
        stream = {"twilio": "streamSid", "telnyx": "stream_id", "plivo": "streamId"}[self._provider]
        self.socket.put({"event": event, stream: STREAM, **fields})

    def media(self, audio: bytes, chunk: int | None = None) -> None:
        self._chunk += 1
        media = {"track": "inbound", "chunk": str(chunk or self._chunk), "timestamp": "5"}
        self.put("media", media={**media, "payload": base64.b64encode(audio).decode()})

    async def say(self, samples: Samples) -> None:
        """At 8 kHz, in frames of 20 ms at the pace of speech; what was sent is played meanwhile."""
        audio = PCMU.encode(samples)
        for start in range(0, len(audio), FRAME):
            self.media(audio[start : start + FRAME])
            await asyncio.sleep(0.02)
            self._pass(FRAME)

    async def speak(self, seconds: float = 1.0) -> None:
        """Something loud."""
        time = np.arange(int(seconds * 8000)) / 8000
        await self.say((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32))

    async def be_silent(self, seconds: float) -> None:
        await self.say(np.zeros(int(seconds * 8000), np.float32))

    def loud(self, start: int = 0) -> bytes:
        """What was heard since, without its silence."""
        return bytes(self.heard[start:]).replace(SILENT, b"")

    def _pass(self, length: int) -> None:
        self._take_events()
        while length and self._unplayed:
            kind, data = self._unplayed[0]
            if kind == "mark":
                self._unplayed.pop(0)
                self._send_back(data.decode())
                continue
            self.heard += data[:length]
            played, length = len(data[:length]), length - len(data[:length])
            self._unplayed[0] = kind, data[played:]
            if not data[played:]:
                self._unplayed.pop(0)
        self.heard += SILENT * length

    def _take_events(self) -> None:
        new = list(zip(self.socket.events, self.socket.times, strict=True))[self._read :]
        self._read += len(new)
        for event, time in new:
            match event["event"]:
                case "media" | "playAudio":
                    self._unplayed.append(("audio", base64.b64decode(event["media"]["payload"])))
                case "mark" | "checkpoint":
                    self._unplayed.append(("mark", name_of(event).encode()))
                case "clear" | "clearAudio":
                    self.clears.append(time)
                    marks = [data.decode() for kind, data in self._unplayed if kind == "mark"]
                    self._unplayed = []
                    for mark in marks:
                        self._send_back(mark)

    def _send_back(self, mark: str) -> None:
        if self._provider == "plivo":
            self.put("playedStream", name=mark)
        else:
            self.put("mark", mark={"name": mark})


def name_of(event: Json) -> str:
    return str(event["mark"]["name"] if "mark" in event else event["name"])


@asynccontextmanager
async def calling(
    server: Server,
    provider: str = "twilio",
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    query: str = "",
) -> AsyncIterator[Telephone]:
    """A call that has begun; at the end the line breaks."""
    path = f"/v1/telephony/{provider}"
    async with connected(server, query, headers=headers, path=path) as socket:
        for message in MESSAGES[provider](dict(parameters or {})):
            socket.put(message)
        yield Telephone(socket, provider)
