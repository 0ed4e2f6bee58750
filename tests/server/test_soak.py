"""What is over is freed: turns at once, without the garbage collector; sessions when the last one has gone."""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.dialogue import HISTORY_LIMIT
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.ledger import Ledger
from vita_duplex.engine.session import Session
from vita_duplex.engine.turn import Turn
from vita_duplex.server.realtime.connection import Connection
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.gateway import Gateway
from vita_duplex.server.server import CALM_S
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
            assert kept.pop("Ledger") <= HISTORY_LIMIT
            assert kept == {}

    with without_collector() as alive:
        run(main())


@pytest.mark.parametrize("query", ["vita_events=true", "", "resume=true"])
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
