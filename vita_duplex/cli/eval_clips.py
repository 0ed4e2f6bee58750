"""One clip of a public set, played to a server in real time as any client would, and what was heard of its replies."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from vita_duplex.cli.eval_layouts import Clip
from vita_duplex.client.connection import CONNECT_S, Address
from vita_duplex.client.conversation import Witness
from vita_duplex.client.errors import TalkError
from vita_duplex.client.messages import decode
from vita_duplex.client.player import Heard
from vita_duplex.client.recording import OUTPUT_RATE, Pcm, read_recording
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.vad.endpoint import WINDOW
from vita_duplex.vad.silero import Silero

FRAME_S = 0.02
INTO_S = 1.0
"""After the first sound of a reply that was asked for in writing."""
TAIL_S = 12.0
"""At most so long is listened after the clip."""
SETTLED_S = 2.0
"""With nothing to be heard for so long the clip is over."""
FIRST_S = 30.0
"""A reply that was asked for in writing is heard by then."""
MERGE_S = 0.6
"""HumDial-FDBench's own: speech after a shorter gap is the same stretch."""
PROMPT = "Tell me a long story about a lighthouse, in at least ten sentences."

SESSION = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": OUTPUT_RATE}, "turn_detection": {"type": "server_vad"}},
        "output": {"format": {"type": "audio/pcm", "rate": OUTPUT_RATE}},
    },
}


@dataclass(slots=True)
class Listened:
    """What was heard while a clip was played. Times are in seconds from the clip's first sample."""

    clip: Clip
    span: tuple[float, float]
    """Of what was said into the reply."""
    heard: list[tuple[str, float, float]] = field(default_factory=list)
    """Of which reply, from when to when; a reply that was held has several stretches."""
    cut: dict[str, float] = field(default_factory=dict)
    """When a reply was ended before its end."""


class _Player:
    """A client with a loudspeaker. It stops on `speech_started`, as all do, and on `vita.hold` if that comes."""

    def __init__(self, connection: ClientConnection, clock: Callable[[], float]) -> None:
        self.witness = Witness()
        self.cut: dict[str, float] = {}
        self._connection = connection
        self._clock = clock

    async def receive_until(self, until: float) -> None:
        """Errors: `TalkError`."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                while True:
                    self._take(await self._connection.recv())
        except TimeoutError:
            self.witness.player.advance(self._clock())
        except ConnectionClosed as closed:
            raise TalkError(f"the server closed the connection ({closed})") from closed

    def _take(self, message: str | bytes) -> None:
        now = self._clock()
        event = decode(message, now)
        if event is not None:
            self.witness.receive(event)
        kind = json.loads(message)
        if kind.get("type") == "input_audio_buffer.speech_started":
            for response_id in self.witness.player.stop(now):
                self.cut.setdefault(response_id, now)
        elif kind.get("type") == "response.done" and kind["response"].get("status") == "cancelled":
            self.cut.setdefault(kind["response"]["id"], now)

    @property
    def sounding(self) -> bool:
        return not self.witness.player.idle

    @property
    def pending(self) -> bool:
        return any(reply.done is None for reply in self.witness.conversation.replies.values())


async def listen(address: Address, clip: Clip) -> Listened:
    """Play a clip and listen. Errors: `TalkError`."""
    samples = await asyncio.to_thread(read_recording, clip.audio)
    span = await asyncio.to_thread(find_span, clip, samples.samples) if clip.span is None else clip.span
    pcm = soxr.resample(samples.samples, INPUT_RATE, OUTPUT_RATE)
    clock = asyncio.get_running_loop().time
    async with asyncio.timeout(CONNECT_S):
        connection = await address.connect({})
    try:
        player = _Player(connection, clock)
        await _send(connection, {"type": "session.update", "session": SESSION})
        async with asyncio.timeout(CONNECT_S):
            while not player.witness.ready:
                await player.receive_until(clock() + 0.1)
                for refusal in player.witness.conversation.errors:
                    raise TalkError(f"refused by the server: {refusal.error.message or refusal.error.code}")
        return await _play(connection, player, clip, span, pcm)
    finally:
        await connection.close()


async def _play(
    connection: ClientConnection, player: _Player, clip: Clip, span: tuple[float, float], pcm: Pcm
) -> Listened:
    clock = asyncio.get_running_loop().time
    frame, due = round(FRAME_S * OUTPUT_RATE), clock()
    silence = np.zeros(frame, np.int16)

    async def send(samples: Pcm) -> None:
        nonlocal due
        audio = base64.b64encode(samples.astype("<i2").tobytes()).decode()
        await _send(connection, {"type": "input_audio_buffer.append", "audio": audio})
        due += FRAME_S
        await player.receive_until(due)

    if not clip.has_question:
        await _ask(connection)
        asked = clock()
        while (first := player.witness.conversation.first_heard()) is None or clock() < first + INTO_S:
            if clock() > asked + FIRST_S:
                raise TalkError(f"no reply within {FIRST_S:.0f} s")
            await send(silence)
    began = clock()
    for start in range(0, len(pcm), frame):
        if not clip.has_question and not player.sounding and not player.pending:
            break  # the reply is over; what comes now is said into silence
        await send(np.pad(piece := pcm[start : start + frame], (0, frame - len(piece))))
    ended = quiet_since = clock()
    while clock() < ended + TAIL_S and clock() < quiet_since + SETTLED_S:
        await send(silence)
        if player.sounding or player.pending:
            quiet_since = clock()
    heard = [_stretch(one, began) for one in player.witness.player.heard]
    return Listened(clip, span, heard, {reply: at - began for reply, at in player.cut.items()})


def _stretch(heard: Heard, began: float) -> tuple[str, float, float]:
    return heard.response_id, heard.start / OUTPUT_RATE - began, heard.end / OUTPUT_RATE - began


async def _ask(connection: ClientConnection) -> None:
    content = [{"type": "input_text", "text": PROMPT}]
    item = {"type": "message", "role": "user", "content": content}
    await _send(connection, {"type": "conversation.item.create", "item": item})
    await _send(connection, {"type": "response.create"})


async def _send(connection: ClientConnection, event: dict[str, Any]) -> None:
    try:
        await connection.send(json.dumps(event))
    except ConnectionClosed as closed:
        raise TalkError(f"the server closed the connection ({closed})") from closed


def find_span(clip: Clip, samples: Pcm) -> tuple[float, float]:
    """From the second stretch of speech to the last, or for a clip that is to be waited for from the first.

    Errors: `TalkError`.
    """
    found = stretches(samples)
    first = 0 if clip.wanted == "wait" else 1
    if len(found) <= first:
        raise TalkError(f"{clip.audio} has {len(found)} stretches of speech; what is said into the reply is not found")
    return found[first][0], found[-1][1]


def stretches(samples: Pcm) -> list[tuple[float, float]]:
    """Where somebody speaks, in seconds. Blocks."""
    model = Silero()
    state = model.start()[None]
    windows = samples[: len(samples) // WINDOW * WINDOW].astype(np.float32).reshape(-1, 1, WINDOW) / 32768
    speech = []
    for number, window in enumerate(windows):
        probability, state = model.probabilities(window, state)
        if probability[0] >= 0.5:
            speech.append(number)
    gaps = [number for number, (one, two) in enumerate(pairwise(speech), 1) if two - one > MERGE_S / SECONDS]
    return [(part[0] * SECONDS, (part[-1] + 1) * SECONDS) for part in np.split(speech, gaps) if len(part)]


SECONDS = WINDOW / INPUT_RATE
"""Of a window."""
