"""Users for a load test: they ask, interrupt, nod and leave, and hear what they measure. Any such server will do."""

import asyncio
import base64
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from vita_duplex.client.connection import Address
from vita_duplex.client.recording import OUTPUT_RATE, Pcm

FRAME_S = 0.02
FRAME = int(OUTPUT_RATE * FRAME_S)
LOUD = 1500
"""Of 32767: speech in a recording, against the noise before and behind it."""
GAP_S = 0.1
"""A pause in a reply that people notice; the audio is played as it comes, without a buffer of its own."""
PATIENCE_S = 10.0
"""Who is answered nothing for so long asks again: the question was not taken for one."""
THINK_S = (0.5, 3.0)
"""Between the end of a reply and the next question."""
INTERRUPTS, NODS, LEAVES = 0.4, 0.2, 0.1
"""Shares of the replies that are interrupted, nodded at, and after which a user hangs up and calls again."""
SILENCE: Pcm = np.zeros(FRAME, np.int16)
SESSION = {
    "type": "session.update",
    "session": {"type": "realtime", "audio": {"output": {"format": {"type": "audio/pcm", "rate": OUTPUT_RATE}}}},
}


@dataclass
class Seen:
    """Of all users of one process, in seconds."""

    first_audio: list[float] = field(default_factory=list)
    """From the end of the speech to the first sample of the reply."""
    stop: list[float] = field(default_factory=list)
    """From the first sound of an interruption to the silence of the reply."""
    replies: int = 0
    gaps: int = 0
    """Replies with a gap in them."""
    unanswered: int = 0
    refused: list[str] = field(default_factory=list)
    """Why there was no session, or why it ended."""
    late: list[float] = field(default_factory=list)
    """How late frames were sent: the generator's own delay."""

    def add(self, other: "Seen") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Hearing:
    """What one user hears of the server. Pure: `now` in seconds."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._asked: float | None = None
        self._interrupted: float | None = None
        self._plays_until: float | None = None
        self._has_gap = False
        self.replying = False
        self.heard_s = 0.0
        """Of the reply."""

    def asked(self, now: float) -> None:
        """The speech is over."""
        self._asked = now

    def interrupts(self, now: float) -> None:
        if self.replying:
            self._interrupted = now

    def gives_up(self) -> None:
        self._asked = None
        self._seen.unanswered += 1

    @property
    def waits(self) -> bool:
        return self._asked is not None

    def audio(self, seconds: float, now: float) -> None:
        if self._asked is not None:
            self._seen.first_audio.append(now - self._asked)
            self._asked = None
        if not self.replying:
            self.replying, self.heard_s, self._has_gap, self._plays_until = True, 0.0, False, now
        assert self._plays_until is not None
        self._has_gap = self._has_gap or now - self._plays_until > GAP_S
        self._plays_until = max(now, self._plays_until) + seconds
        self.heard_s += seconds

    def silenced(self, now: float, *, over: bool) -> None:
        """The reply falls silent: for good, or until it goes on."""
        if self._interrupted is not None:
            self._seen.stop.append(now - self._interrupted)
            self._interrupted = None
        if over and self.replying:
            self._seen.replies += 1
            self._seen.gaps += self._has_gap
            self.replying = False

    def goes_on(self, now: float) -> None:
        """A pause that was meant is no gap."""
        self._plays_until = now

    def hears(self, event: dict[str, Any], now: float) -> None:
        match event.get("type"):
            case "response.output_audio.delta" | "response.audio.delta":
                self.audio(len(base64.b64decode(event["delta"])) / 2 / OUTPUT_RATE, now)
            case "vita.hold":
                self.silenced(now, over=False)
            case "input_audio_buffer.speech_started" if self._interrupted is not None:
                self.silenced(now, over=False)  # on this, stock clients throw the rest away
            case "vita.resume":
                self.goes_on(now)
            case "response.done":
                self.silenced(now, over=True)
            case _:
                pass


class User:
    """One who talks until it is time to go."""

    def __init__(self, address: Address, speech: Sequence[Pcm], seen: Seen, seed: int) -> None:
        """`speech`: recordings at 24 kHz, of which each begins and ends with speech."""
        self._address, self._speech, self._seen = address, speech, seen
        self._moods = random.Random(seed)
        self._clock = asyncio.get_running_loop().time
        self._due = 0.0

    async def talk(self, until: float) -> None:
        await asyncio.sleep(self._moods.random() * 2)
        while self._clock() < until:
            try:
                connection = await self._address.connect({})
            except (OSError, InvalidHandshake, TimeoutError) as reason:
                self._seen.refused.append(type(reason).__name__)
                await asyncio.sleep(1)
                continue
            async with connection:
                await self._call(connection, until)

    async def _call(self, connection: ClientConnection, until: float) -> None:
        hearing = Hearing(self._seen)
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(connection, hearing))
                await connection.send(json.dumps(SESSION))
                self._due = self._clock()
                while self._clock() < until:
                    await self._turn(connection, hearing, until)
                    if self._moods.random() < LEAVES:
                        break
                listening.cancel()
        except* ConnectionClosed as closed:
            self._seen.refused += [str(one.rcvd.code if one.rcvd else "broken") for one in _leaves(closed)]

    async def _turn(self, connection: ClientConnection, hearing: Hearing, until: float) -> None:
        """One question, and what follows from it."""
        await self._say(connection, self._moods.choice(self._speech))
        hearing.asked(self._clock())
        gives_up = self._clock() + PATIENCE_S
        mood, at_s = self._moods.random(), self._moods.uniform(0.5, 3)
        while (hearing.waits or hearing.replying) and self._clock() < until:
            if hearing.waits and self._clock() > gives_up:
                hearing.gives_up()
            if hearing.replying and hearing.heard_s > at_s and mood < INTERRUPTS + NODS:
                hearing.interrupts(self._clock())
                speech = self._moods.choice(self._speech)
                await self._say(connection, speech if mood < INTERRUPTS else speech[: OUTPUT_RATE // 2])
                if mood < INTERRUPTS:
                    hearing.asked(self._clock())
                    gives_up = self._clock() + PATIENCE_S
                mood = 1.0
            await self._say(connection, SILENCE)
        for _ in range(int(self._moods.uniform(*THINK_S) / FRAME_S)):
            await self._say(connection, SILENCE)

    async def _say(self, connection: ClientConnection, samples: Pcm) -> None:
        """At the pace of speech."""
        for start in range(0, len(samples), FRAME):
            await asyncio.sleep(max(0.0, self._due - self._clock()))
            self._seen.late.append(max(0.0, self._clock() - self._due))
            frame = base64.b64encode(samples[start : start + FRAME].tobytes()).decode()
            await connection.send('{"type":"input_audio_buffer.append","audio":"' + frame + '"}')
            self._due += FRAME_S

    async def _listen(self, connection: ClientConnection, hearing: Hearing) -> None:
        async for message in connection:
            event = json.loads(message)
            hearing.hears(event, self._clock())
            if event.get("type") == "error" and event["error"].get("code") == "session_limit_reached":
                self._seen.refused.append("session_limit_reached")


def _leaves(group: BaseExceptionGroup[ConnectionClosed]) -> list[ConnectionClosed]:
    return [
        leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]
