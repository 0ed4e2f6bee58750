"""A client over WebRTC, made of aiortc: it speaks, and listens to what comes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from tests.support.sockets import Json
from vita_duplex.engine.audio import Samples

RATE = 48_000
FRAME = RATE // 50


class Voice(MediaStreamTrack):  # type: ignore[misc]
    """A microphone: silence, unless somebody speaks."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._queue = np.zeros(0, np.int16)
        self._count = 0
        self._began: float | None = None
        self.spoken = asyncio.Event()

    def say(self, samples: Samples) -> None:
        """At 48 kHz."""
        self._queue = np.concatenate([self._queue, (samples * 32767).astype(np.int16)])
        self.spoken.clear()

    async def recv(self) -> AudioFrame:
        now = asyncio.get_running_loop().time
        self._began = now() if self._began is None else self._began
        await asyncio.sleep(max(0.0, self._began + self._count / RATE - now()))
        data, self._queue = self._queue[:FRAME], self._queue[FRAME:]
        if not len(self._queue):
            self.spoken.set()
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(np.pad(data, (0, FRAME - len(data))).tobytes())
        frame.pts, frame.sample_rate, frame.time_base = self._count, RATE, Fraction(1, RATE)
        self._count += FRAME
        return frame


class Caller:
    """One call."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration([]))
        self.voice = Voice()
        self.events: list[tuple[float, Json]] = []
        """Time and event."""
        self.levels: list[tuple[float, float]] = []
        """Time and loudness (root mean square in [0, 1]) of each 20 ms that were heard."""
        self.channel: RTCDataChannel = self.connection.createDataChannel("oai-events")
        self.location = ""
        self._changed = asyncio.Condition()
        self._listening: asyncio.Task[None] | None = None
        self.connection.addTrack(self.voice)
        self.channel.on("message", self._on_message)
        self.connection.on("track", self._on_track)

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def accept(self, answer: httpx.Response) -> None:
        assert answer.status_code == 201, answer.text
        self.location = answer.headers.get("location", "")
        await self.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))

    def put(self, event: Json) -> None:
        self.channel.send(json.dumps(event))

    def all(self, kind: str) -> list[Json]:
        return [event for _, event in self.events if event["type"] == kind]

    def kinds(self) -> list[str]:
        return [event["type"] for _, event in self.events]

    async def until(self, kind: str, number: int = 1, limit_s: float = 30) -> Json:
        """Wait for the `number`-th event of a kind."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: len(self.all(kind)) >= number)
        return self.all(kind)[number - 1]

    async def until_loud(self, limit_s: float = 30) -> float:
        """Wait for sound; return its time."""
        before = len(self.levels)
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(lambda: any(level > 0.02 for _, level in self.levels[before:]))
        return next(time for time, level in self.levels[before:] if level > 0.02)

    async def speak(self, seconds: float = 1.0) -> float:
        """Something loud; return the time of its first frame."""
        time = np.arange(int(seconds * RATE)) / RATE
        self.voice.say((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32))
        began = asyncio.get_running_loop().time()
        await self.voice.spoken.wait()
        return began

    def last_loud(self) -> float:
        return max(time for time, level in self.levels if level > 0.02)

    async def close(self) -> None:
        await self.connection.close()
        if self._listening:
            await self._listening

    def _on_message(self, message: Any) -> None:
        self.events.append((asyncio.get_running_loop().time(), json.loads(message)))
        self._telling = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._listening = asyncio.ensure_future(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                samples = frame.to_ndarray().astype(np.float32) / 32768
                self.levels.append((asyncio.get_running_loop().time(), float(np.sqrt(np.mean(samples**2)))))
                await self._tell()
        except MediaStreamError:
            pass


@asynccontextmanager
async def calling(port: int, query: str = "", first: str = "session.created", **request: Any) -> AsyncIterator[Caller]:
    """A call whose `first` event has come. `request`: more for the POST, such as `headers` or a `session`."""
    caller = Caller()
    try:
        sdp = await caller.offer()
        url = f"http://127.0.0.1:{port}/v1/realtime/calls?{query}"
        headers = {"Content-Type": "application/sdp", **request.pop("headers", {})}
        async with httpx.AsyncClient(timeout=30) as client:
            if "session" in request:
                del headers["Content-Type"]
                form = {"sdp": (None, sdp, "application/sdp"), "session": (None, json.dumps(request["session"]))}
                answer = await client.post(url, files=form, headers=headers)
            else:
                answer = await client.post(url, content=sdp, headers=headers)
        await caller.accept(answer)
        await caller.until(first)
        yield caller
    finally:
        await caller.close()
