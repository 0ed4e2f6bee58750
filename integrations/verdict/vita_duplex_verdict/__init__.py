"""A client of `WS /v1/verdict`: tell it of your replies and it tells you when to fall silent, go on, or stop.

It keeps the connection: while there is none `connected` is False, microphone audio is dropped, and a reply that was
held is to go on, so an application never waits for a server that is gone.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

AGAIN_S = 1.0
"""Between attempts to connect."""
UNSENT = 100
"""Frames of audio that may wait for a slow network; older ones are worth more than newer ones, so these are dropped."""
FINAL = ("missing_api_key", "invalid_api_key", "model_not_found")
"""Refusals that no second attempt changes."""


class VerdictRefused(Exception):
    """The server refuses for good; the text says why."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The server listens, or does not any more."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Speech:
    """Somebody speaks, whoever it is meant for, or has stopped."""

    speaking: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """Fall silent at once; cancel nothing."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on where it was."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The reply is over: the user has the floor."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was said, and has ended, was meant for the application, or not."""

    accepted: bool
    p1: float | None
    transcript: str | None


Event = Connected | Speech | Hold | Resume | Stop | Verdict
KINDS = {"vita.hold": Hold(), "vita.resume": Resume(), "vita.stop": Stop()}


class VerdictClient:
    """One conversation. Iterate over `events` while you call the rest."""

    def __init__(self, url: str, *, api_key: str | None = None, model: str | None = None, rate: int = 16_000,
                 language: str | None = None) -> None:  # fmt: skip
        """`url`: such as ws://127.0.0.1:8000/v1/verdict. `rate`: of the microphone, 16000 or 24000 Hz."""
        self.rate = rate
        self._url = url + (f"?{urlencode({'model': model})}" if model else "")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        transcription = {"language": language} if language else {}
        sound = {"format": {"type": "audio/pcm", "rate": rate}, "transcription": transcription}
        self._session = {"type": "realtime", "audio": {"input": sound}}
        self._outgoing: asyncio.Queue[bytes | str] = asyncio.Queue()
        self._audio = 0
        self._connection: ClientConnection | None = None
        self._held = self._replying = False

    @property
    def connected(self) -> bool:
        return self._connection is not None

    # ── what the application says ──────────────────────────────────────────────────────

    def hear(self, pcm: bytes) -> None:
        """Microphone audio: 16 bits little-endian, mono, at `rate`."""
        if self.connected and self._audio < UNSENT:
            self._audio += 1
            self._outgoing.put_nowait(pcm)

    def reply_started(self, text: str = "") -> None:
        """The application begins to be heard, with its first words if they are known."""
        self._replying, self._held = True, False
        self._say({"type": "reply.started", "text": text})

    def reply_text(self, delta: str) -> None:
        """More words of the reply, as they are heard."""
        if delta and self._replying:
            self._say({"type": "reply.text", "delta": delta})

    def reply_ended(self) -> None:
        """The application is not heard any more."""
        if self._replying:
            self._replying = self._held = False
            self._say({"type": "reply.ended"})

    def _say(self, event: dict[str, Any]) -> None:
        if self.connected:
            self._outgoing.put_nowait(json.dumps(event))

    # ── what it is told ────────────────────────────────────────────────────────────────

    async def events(self) -> AsyncGenerator[Event]:
        """What happens, until it is closed. Errors: `VerdictRefused`."""
        while True:
            try:
                async with connect(self._url, additional_headers=self._headers, max_size=None) as connection:
                    await connection.send(json.dumps({"type": "session.update", "session": self._session}))
                    self._connection = connection
                    if self._replying:
                        self._say({"type": "reply.started"})
                    yield Connected(True)
                    async for event in self._exchange(connection):
                        yield event
            except InvalidHandshake as refused:
                status = getattr(getattr(refused, "response", None), "status_code", None)
                if status in (401, 403):
                    raise VerdictRefused(f"{self._url} refused: HTTP {status}") from refused
            except (OSError, ConnectionClosed, TimeoutError):
                pass
            finally:
                was, self._connection = self._connection, None
                self._outgoing, self._audio = asyncio.Queue(), 0
            if self._held:
                self._held = False
                yield Resume()
            if was:
                yield Connected(False)
            await asyncio.sleep(AGAIN_S)

    async def _exchange(self, connection: ClientConnection) -> AsyncGenerator[Event]:
        sending = asyncio.create_task(self._send(connection))
        try:
            async for message in connection:
                event = self._read(json.loads(message))
                if event is not None:
                    yield event
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = await self._outgoing.get()
                if isinstance(message, bytes):
                    self._audio -= 1
                await connection.send(message)

    def _read(self, event: dict[str, Any]) -> Event | None:
        """Errors: `VerdictRefused`."""
        match event["type"]:
            case "vita.hold" | "vita.resume" | "vita.stop" as kind:
                if not self._replying:
                    return None  # it crossed the end of the reply
                self._held = kind == "vita.hold"
                self._replying = kind != "vita.stop"
                return KINDS[kind]
            case "vita.speech":
                return Speech(event["speaking"])
            case "vita.verdict":
                return Verdict(event["accepted"], event["p1"], event["transcript"])
            case "error" if event["error"]["code"] in FINAL:
                raise VerdictRefused(event["error"]["message"])
            case _:
                return None
