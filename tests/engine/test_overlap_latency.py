"""How soon a reply falls silent and how soon an answer begins, counted in samples on virtual time.

The session, endpointer and pacer are the real ones; probabilities, engine, voice, network and client are scripted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.conversations import NOISE, QUERY, Conversation, conversation
from tests.support.virtual_time import run
from vita_duplex.engine.audio import INPUT_RATE, Samples
from vita_duplex.engine.events import SpeechPaused, SpeechResumed
from vita_duplex.engine.glances import ROOM
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.notices import Notice, TurnAudio, TurnEnded, TurnHeld, TurnRecorded, TurnResumed, VerdictGiven
from vita_duplex.engine.ports import Heard, Probabilities, VadState, Windows
from vita_duplex.vad.listener import MicrophoneListener

NETWORK_S = 0.02
FRAME_S = 0.01
RATE = 24_000
LETTER = RATE // 15


class ShareVad:
    """The probability of speech is the share of the window that is no silence."""

    def start(self) -> VadState:
        return np.zeros(0, np.float32)

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        return np.mean(windows != 0, axis=1, dtype=np.float32), states


class NumberedVoice:
    """Numbers its samples, so that none can be lost, repeated or exchanged unseen."""

    rate = RATE

    def __init__(self) -> None:
        self.made = 0

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        count = LETTER * len(text)
        self.made += count
        yield np.arange(self.made - count, self.made, dtype=np.float32)


@dataclass
class Player:
    """A client behind the network: plays what it has, falls silent when it is told to."""

    received: list[Samples] = field(default_factory=list)
    buffered: int = 0
    """Samples received and not yet played."""
    held: bool = False
    fell_silent: list[float] = field(default_factory=list)
    _now: float = 0.0

    def pass_until(self, now: float) -> None:
        if not self.held:
            self.buffered = max(0, self.buffered - round((now - self._now) * RATE))
        self._now = now

    def receive(self, notice: Notice) -> None:
        self.pass_until(asyncio.get_running_loop().time())
        match notice:
            case TurnAudio(_, samples):
                self.received.append(samples)
                self.buffered += len(samples)
            case TurnHeld():
                assert self.buffered > 0, "it was silent already"
                self.held = True
                self.fell_silent.append(self._now)
            case TurnResumed():
                self.held = False


class Talker:
    """A microphone behind the network: what is spoken into it arrives in frames, late."""

    def __init__(self, talk: Conversation, player: Player) -> None:
        self._talk = talk
        tell, loop = talk.tell, asyncio.get_running_loop()
        under_way: deque[Notice] = deque()  # timers of the same moment keep no order

        def tell_late(notice: Notice) -> None:
            tell(notice)
            under_way.append(notice)
            loop.call_later(NETWORK_S, lambda: player.receive(under_way.popleft()))

        talk.tell = tell_late  # type: ignore[method-assign]

    async def send(self, sound: Samples) -> None:
        loop, frame = asyncio.get_running_loop(), round(FRAME_S * INPUT_RATE)
        for start in range(0, len(sound), frame):
            await asyncio.sleep(FRAME_S)  # a frame is sent when it is full
            loop.call_later(NETWORK_S, self._talk.listener.hear, sound[start : start + frame])

    async def overlap(self, silence: int, speech: int, rest_s: float) -> float:
        """Silence and speech in samples, then a rest to the next frame; returns when the speech began."""
        began = asyncio.get_running_loop().time() + silence / INPUT_RATE
        sound = np.zeros(silence + speech + round(rest_s * INPUT_RATE), np.float32)
        sound[silence : silence + speech] = 0.3
        await self.send(sound[: len(sound) // 160 * 160])
        return began


LONG = ScriptedReply(transcript="a story", text=" ".join(f"word{n:03}" for n in range(45)) + ".", token_s=0.001)
"""24 s at 15 letters a second."""


def test_a_reply_falls_silent_in_time_and_goes_on_without_loss_after_noise() -> None:
    async def script(numbers: range) -> list[float]:
        """How long the reply took to fall silent for each of a few noises, so few that the room does not count as one
        that talks."""
        player, voice = Player(), NumberedVoice()
        async with conversation(LONG, *[NOISE] * 99, vad=ShareVad(), voice=voice) as talk:
            talker = Talker(talk, player)
            await talker.overlap(0, 16_000, 1.5)  # the question
            onsets = [await talker.overlap(3_200 + 67 * n, 4_800, 0.7) for n in numbers]
            await talk.silent_until(TurnEnded, limit_s=120)
            await asyncio.sleep(NETWORK_S)
        assert [notice.accepted for notice in talk.all(VerdictGiven)] == [True] + [False] * len(numbers)
        samples = np.concatenate(player.received)
        assert np.array_equal(samples, np.arange(voice.made))
        assert talk.endings() == [(1, "completed", None)]
        return [silent - onset for silent, onset in zip(player.fell_silent, onsets, strict=True)]

    waits = [wait for first in range(0, 24, ROOM) for wait in run(script(range(first, first + ROOM)))]
    p50, p95 = np.percentile(waits, [50, 95])
    assert p50 <= 0.180
    assert p95 <= 0.250
    assert min(waits) >= 0.128 - 0.016, "sooner than hold_after_ms could tell"


def test_a_blip_of_60_ms_never_holds_wherever_it_falls() -> None:
    async def script() -> None:
        async with conversation(LONG, *[NOISE] * 99, vad=ShareVad(), voice=NumberedVoice()) as talk:
            talker = Talker(talk, Player())
            await talker.overlap(0, 16_000, 1.5)
            for offset in range(0, 512, 32):
                await talker.overlap(1_600 + offset, 960, 0.55)
            assert talk.all(TurnEnded) == [], "all of them fell into the reply"
            assert talk.all(TurnHeld) == []

    run(script())


class WithoutEarlyStart(MicrophoneListener):
    """Keeps the short silences to itself."""

    async def run(self) -> AsyncGenerator[Heard]:
        async for heard in super().run():
            if not isinstance(heard.event, SpeechPaused | SpeechResumed):
                yield heard


@pytest.mark.parametrize(("ears", "wait_s"), [(MicrophoneListener, 0.0), (WithoutEarlyStart, 0.3)])
def test_the_early_start_hides_the_time_to_the_first_token(ears: type[MicrophoneListener], wait_s: float) -> None:
    """An engine of 300 ms to its first token, a pause of 200 ms, an end after 500 ms."""

    async def script() -> None:
        slow = QUERY.model_copy(update={"verdict_s": 0.2, "token_s": 0.1})
        async with conversation(slow, vad=ShareVad(), ears=ears) as talk:
            await talk.speak(1.0)
            await talk.silent_until(TurnRecorded)
            [record] = [notice.record for notice in talk.all(TurnRecorded)]
            assert record.first_token is not None
            assert record.endpoint is not None
            assert max(0.0, record.first_token - record.endpoint) == pytest.approx(wait_s, abs=0.01)

    run(script())
