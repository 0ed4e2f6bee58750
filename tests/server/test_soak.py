"""What is over is freed at once, without the garbage collector."""

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
from vita_duplex.engine.session import Session, Turn
from vita_duplex.server.realtime.connection import Connection
from vita_duplex.server.realtime.conversation import Conversation
from vita_duplex.server.realtime.gateway import Gateway
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
def test_sessions_that_are_over_are_freed_at_once(query: str, code: int) -> None:
    async def main() -> None:
        server = scripted_server(*REPLIES)
        async with connected(server, query) as socket:
            await socket.speak(0.6)
            await socket.until("response.output_audio.delta")
            assert alive(*OF_SESSIONS).total() == len(OF_SESSIONS)
            socket.leave(code)
        assert alive(*OF_TURNS, *OF_SESSIONS) == {}

    with without_collector() as alive:
        run(main())


def test_a_session_whose_client_falls_silent_is_freed_at_once() -> None:
    async def main() -> None:
        async with connected(scripted_server(), "vita_events=true") as socket:
            socket.put({"type": "session.heartbeat"})
            await asyncio.sleep(60)
            assert socket.closed
            assert alive(*OF_SESSIONS) == {}

    with without_collector() as alive:
        run(main())
