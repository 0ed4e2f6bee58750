"""What is over is freed: turns at once, without the garbage collector; sessions when the last one has gone."""

import asyncio
import gc
import logging
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from tools import bench_sockets
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.ledger import Ledger
from vita_duplex.engine.playback import LEDGERS_KEPT
from vita_duplex.engine.session import Session
from vita_duplex.engine.turn import Turn
from vita_duplex.server.realtime.connection import Connection
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.gateway import Gateway
from vita_duplex.server.server import CALM_S, Server
from vita_duplex.tts.speech import PacedSpeech
from vita_duplex.vad.listener import MicrophoneListener

OF_TURNS = (Turn, PacedSpeech, Ledger)
OF_SESSIONS = (Session, Conversation, Gateway, Connection, MicrophoneListener)
REPLIES = (
    ScriptedReply(text="One two three four five. Six seven eight nine ten."),
    ScriptedReply(p1=0.05),
    ScriptedReply(text="One two three four five six.", fails_after=3),
    ScriptedReply(text="word " * 40, token_s=0.1),
)


@contextmanager
def without_collector() -> Iterator[Callable[..., Counter[str]]]:
    """Gives a function that counts what of some kinds has come and not gone again, by the names of the kinds."""

    def alive(*kinds: type) -> Counter[str]:
        return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))

    gc.collect()
    before = alive(*OF_TURNS, *OF_SESSIONS)  # other tests' that somebody keeps
    gc.disable()
    try:
        yield lambda *kinds: alive(*kinds) - before
    finally:
        gc.enable()


def test_turns_that_are_over_are_freed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "vita_duplex")  # pytest keeps what is logged, and so the failures

    async def main() -> None:
        server = scripted_server(*REPLIES)
        async with connected(server) as socket:
            for number in range(50):
                await socket.speak(0.6)
                await asyncio.sleep((0.3, 6, 1.2, 0.1)[number % 4])  # into the answer, or after it
            await asyncio.sleep(20)
            endings = Counter(event["response"]["status"] for event in socket.all("response.done"))
            assert endings.keys() == {"completed", "cancelled", "failed"}
            assert endings.total() > 25
            kept = alive(*OF_TURNS)
            assert kept.pop("Ledger") <= LEDGERS_KEPT
            assert kept == {}

    with without_collector() as alive:
        run(main())


@pytest.mark.parametrize("query", ["vita_events=true&pauses=true&queue=true", "", "resume=true"])
@pytest.mark.parametrize("code", [1000, 1006], ids=["politely", "cut off"])
def test_when_the_last_session_is_over_nothing_of_any_is_left(query: str, code: int) -> None:
    async def main() -> None:
        server = scripted_server(*REPLIES)
        watching = asyncio.create_task(server.watch_lag())
        async with connected(server, query) as socket:
            await socket.speak(0.6)
            await socket.until("response.output_audio.delta")
            assert alive(*OF_SESSIONS).total() == len(OF_SESSIONS)
            socket.leave(code)
        await asyncio.sleep(2 * CALM_S)
        assert alive(*OF_TURNS, *OF_SESSIONS) == {}
        watching.cancel()
        await asyncio.wait([watching])

    with without_collector() as alive:
        run(main())


async def chat(server: Server, hours: float) -> None:
    """One talker, at random, also into the answers."""
    moods, now = random.Random(1), asyncio.get_running_loop().time
    async with connected(server) as socket:
        while now() < 3600 * hours:
            await socket.speak(moods.uniform(0.2, 1.2), binary=True)
            await asyncio.sleep(moods.choice([0.1, 0.8, 1.5, 4.0]))
            socket.events.clear()
            socket.times.clear()


@pytest.mark.long
@pytest.mark.real
def test_an_hour_of_talk_keeps_no_more_than_its_first_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """On virtual time. Memory is counted in bytes that Python gave out, not in what the allocator holds."""
    caplog.set_level(logging.ERROR, "vita_duplex")
    kept: list[int] = []

    async def look() -> None:
        for _ in range(11):
            await asyncio.sleep(300)
            gc.collect()
            kept.append(tracemalloc.get_traced_memory()[0])

    async def main() -> None:
        server = scripted_server(*REPLIES)
        await asyncio.gather(chat(server, 1.0), look())

    tracemalloc.start()
    try:
        run(main())
    finally:
        tracemalloc.stop()
    assert max(kept[2:]) < 1.1 * kept[1]


@pytest.mark.long
@pytest.mark.real
def test_five_minutes_over_sockets_take_three_megabytes_a_session_and_give_them_back() -> None:
    sessions = 16
    with bench_sockets.served("humming", "silero", sessions) as (port, process):
        seen, usage = asyncio.run(bench_sockets.measure(sessions, 300, port, process))
    print(bench_sockets.report(sessions, 300, seen, usage))
    assert usage.per_session_mb(sessions) <= 3
    assert max(usage.talking_mb) <= 1.05 * max(usage.talking_mb[:6]), "it is flat after the first minute"
    assert usage.gone_mb <= 1.2 * usage.start_mb
