"""Many conversations in one process, each with its own user who talks into the answers at random. Virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from tests.support.conversations import Conversation, conversation
from tests.support.seed import SEED
from tests.support.virtual_time import run
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.notices import TurnAudio, TurnEnded, TurnHeld, TurnResumed, TurnStarted
from vita_duplex.engine.pool import Pool

RATE = 24_000
LETTER = RATE // 15

REPLIES = tuple(
    ScriptedReply(
        p1=0.05 if noise else 0.95, text=" ".join(f"word{chr(97 + word)}" for word in range(25)) + ".", token_s=0.01
    )
    for n, noise in enumerate([False, True, False, True, True])
)


class NumberedVoice:
    """Numbers the samples of a session, so that none can be lost, repeated or exchanged unseen."""

    rate = RATE

    def __init__(self) -> None:
        self.made = 0

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        count = LETTER * len(text)
        self.made += count
        yield np.arange(self.made - count, self.made, dtype=np.float32)


def check_client(talk: Conversation) -> Counter[str]:
    """Every sample a client got: of the turn that is audible, not held, the next one in order, and none after it."""
    audible, held, last = None, False, -1
    seen: Counter[str] = Counter()
    letters, received = 0, 0
    for _, notice in talk.told:
        match notice:
            case TurnStarted(turn):
                assert audible is None
                audible, held, last, letters, received = turn, False, -1, 0, 0
            case TurnAudio(turn, samples, text):
                assert (turn, held) == (audible, False)
                letters += len(text or "")
                received += len(samples)
                if len(samples):
                    assert last in (-1, samples[0] - 1), "lost or repeated"
                    assert np.array_equal(samples, np.arange(samples[0], samples[0] + len(samples)))
                    last = samples[-1]
            case TurnHeld(turn):
                assert (turn, held) == (audible, False)
                held = True
                seen["held"] += 1
            case TurnResumed(turn):
                assert (turn, held) == (audible, True)
                held = False
                seen["resumed"] += 1
            case TurnEnded(turn, status):
                assert turn == audible
                assert status != "completed" or received == LETTER * letters, "the end is missing"
                audible = None
                seen[status] += 1
    return seen


@pytest.mark.parametrize(
    ("sessions", "seconds"), [pytest.param(8, 12, id="few"), pytest.param(64, 60, id="many", marks=pytest.mark.long)]
)
def test_every_client_gets_every_sample_once_and_in_order(sessions: int, seconds: int) -> None:
    async def user(pool: Pool, number: int) -> Counter[str]:
        moods = random.Random(SEED + number)
        loop = asyncio.get_running_loop()
        async with conversation(pool=pool, voice=NumberedVoice()) as talk:
            ends = loop.time() + seconds
            await talk.be_silent(moods.random())
            while loop.time() < ends:
                await talk.speak(moods.uniform(0.2, 1.2))
                await talk.be_silent(moods.choice([0.3, 0.8, 1.5, 4.0]))
            await talk.be_silent(15)  # the last answer comes to its end
            return check_client(talk)

    async def script() -> None:
        pool = Pool([ScriptedInstance(name, REPLIES) for name in "ab"])
        users = [asyncio.create_task(user(pool, number)) for number in range(sessions)]
        await asyncio.sleep(seconds + 12)
        loads = pool.generators.values()
        assert (sum(loads), max(loads) - min(loads)) == (sessions, 0), "invariant 10, now that all are silent"
        seen = sum(await asyncio.gather(*users), Counter())
        assert min(seen[kind] for kind in ("held", "resumed", "cancelled", "completed")) >= sessions / 2, seen
        assert seen["failed"] == 0
        assert set(pool.generators.values()) == {0}

    run(script())
