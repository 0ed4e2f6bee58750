"""One conversation on real clocks: what virtual time cannot show, for there no time passes within a step."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.conversations import QUERY
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import SpeechEnded, SpeechPaused, SpeechStarted, SpeechSustained
from vita_duplex.engine.instances.scripted import ScriptedInstance
from vita_duplex.engine.notices import Notice, TurnEnded, TurnHeld, TurnRecorded, TurnStarted
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import Heard, SpeechEvent
from vita_duplex.engine.session import Session
from vita_duplex.server.observe.metrics import Metrics, ServerState, SessionMeter
from vita_duplex.tts.speech import PacedSpeech, SpeechConfig
from vita_duplex.tts.voices.scripted import HummingVoice

ROUNDS = 5
SAID: Samples = np.zeros(16_000, np.float32)


class Surroundings:
    """Listener and client of one session. Waits for what is told, never for time."""

    def __init__(self) -> None:
        self.metrics = Metrics(ServerState)
        self._meter = SessionMeter(self.metrics)
        self._heard: asyncio.Queue[SpeechEvent] = asyncio.Queue()
        self._told: asyncio.Queue[Notice] = asyncio.Queue()

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, TurnRecorded):
            self._meter.turn(notice.record)
        self._told.put_nowait(notice)

    async def told(self, kind: type[Notice]) -> None:
        while not isinstance(await self._told.get(), kind):
            pass

    def notice(self, *events: SpeechEvent) -> None:
        for event in events:
            self._heard.put_nowait(event)

    async def run(self) -> AsyncGenerator[Heard]:
        while True:
            event = await self._heard.get()
            yield Heard(event, 0, 0, 0, None if isinstance(event, SpeechStarted | SpeechSustained) else SAID)

    def hear(self, samples: Samples) -> bool:
        return True

    def forget(self) -> int:
        return 0

    async def end(self) -> int | None:
        return None

    def hint(self, samples: Samples, finished: float) -> None: ...

    def note(self, notice: Notice) -> None: ...


async def interrupt_replies() -> Counter[str]:
    """Each reply is held, and ended in its hold by a question; return how many holds ended how."""
    long = QUERY.model_copy(update={"text": " ".join(["One two three four five six seven eight."] * 20), "token_s": 0})
    world, numbers = Surroundings(), count(1)
    seat = Pool([ScriptedInstance("a", (long,)), ScriptedInstance("b", (long,))]).seat()
    config = DuplexConfig(verdict_deadline_ms=60_000, first_limit_s=60, stall_limit_s=60)
    voice = HummingVoice()
    session = Session(config, seat, world, lambda _: PacedSpeech(voice, SpeechConfig(), client_pauses=True), world)
    running = asyncio.create_task(session.run())
    await session.ask(next(numbers), "Tell me a story.")
    for number in range(2, 2 + ROUNDS):
        await world.told(TurnStarted)
        world.notice(SpeechStarted(number), SpeechSustained(number))
        await world.told(TurnHeld)
        world.notice(SpeechPaused(number), SpeechEnded(number))
        await world.told(TurnEnded)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    families = text_string_to_metric_families(world.metrics.text().decode())
    [holds] = [family for family in families if family.name == "vita_duplex_holds"]
    return Counter({one.labels["outcome"]: int(one.value) for one in holds.samples if one.name.endswith("_total")})


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_a_hold_that_ends_with_its_reply_was_no_false_alarm(library: str) -> None:
    new_loop: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip(library).new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        holds = runner.run(interrupt_replies())
    assert (holds["cancelled"], holds["resumed"]) == (ROUNDS, 0)
