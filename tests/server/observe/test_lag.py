"""The server knows how late its event loop is, says so, and lets nobody in while it is behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import VirtualLoop, run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.admission import Admission, Ticket
from vita_duplex.server.errors import Refusal
from vita_duplex.server.observe.lag import BEHIND_S, KEPT_S, TICK_S, Lag
from vita_duplex.server.server import Server

LONG = ScriptedReply(text="word " * 40)


def test_one_hiccup_is_no_backlog_and_a_backlog_ends() -> None:
    lag = Lag()
    lag.note(5.0, 0.0)
    assert not lag.behind
    for tick in range(100):
        lag.note(0.5, tick * TICK_S)
    assert lag.behind
    assert lag.mean_s == pytest.approx(0.5, rel=0.2)
    for tick in range(100):
        lag.note(0.0, 10 + tick * TICK_S)
    assert not lag.behind


def test_the_worst_lag_of_a_turn_is_the_largest_since_it_began() -> None:
    lag = Lag()
    for tick in range(2 * round(KEPT_S / TICK_S)):
        lag.note(1.0 if tick == 900 else 0.1, tick * TICK_S)
    assert [lag.worst_s(89.95), lag.worst_s(90.05), lag.worst_s(1000)] == [1.0, 0.1, 0.0]


def ticket(admission: Admission, may_wait: bool = True) -> Ticket | Refusal:
    return admission.ask(None, 0.0, may_wait=may_wait)


def test_while_the_server_is_behind_nobody_begins_but_the_first() -> None:
    admission = Admission(8, 2)
    admission.behind = True
    first, second = ticket(admission), ticket(admission)
    refused = ticket(admission, may_wait=False)
    assert isinstance(refused, Refusal)
    assert "behind" in refused.message
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    assert (first.began, second.began) == (0.0, None)
    assert not admission.advance(1.0)
    admission.behind = False
    third = ticket(admission)
    assert isinstance(third, Ticket)
    assert third.began is None, "it would overtake"
    assert admission.advance(2.0)
    assert (second.began, third.began) == (2.0, None), "one at a time: the lag shows what each costs"
    assert admission.advance(3.0)
    assert not admission.advance(4.0)


def test_when_the_last_session_leaves_the_next_begins_however_far_the_server_is_behind() -> None:
    admission = Admission(8, 2)
    first = ticket(admission)
    admission.behind = True
    second = ticket(admission)
    assert isinstance(first, Ticket)
    assert isinstance(second, Ticket)
    admission.leave(first, 1.0)
    assert second.began == 1.0


@asynccontextmanager
async def lagging(server: Server, late_s: float) -> AsyncIterator[None]:
    """Something keeps the loop busy for so long, again and again."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)

    async def keep_busy() -> None:
        while True:
            loop.keep_busy(late_s)
            await asyncio.sleep(TICK_S / 2)

    async with asyncio.TaskGroup() as tasks:
        busy = tasks.create_task(keep_busy())
        await asyncio.sleep(60)
        assert server.metrics.lag.behind
        yield
        busy.cancel()


def test_a_client_waits_until_the_server_has_caught_up() -> None:
    async def main() -> None:
        server = scripted_server(LONG)
        watching = asyncio.create_task(server.watch_lag())
        async with connected(server) as first:
            await first.until("session.created")
            async with lagging(server, 3 * BEHIND_S):
                async with connected(server, "") as stock:
                    await stock.some()
                assert stock.closed == (1013, "session_limit_reached")
                async with connected(server, "vita_events=true&queue=true") as left:
                    await left.until("vita.queue")
            async with connected(server, "vita_events=true&queue=true") as second:
                await second.until("session.created", limit_s=60)
                assert second.kinds()[0] == "vita.queue"
        watching.cancel()
        await asyncio.wait([watching])
        assert not server.metrics.lag.behind

    run(main())


def test_a_record_says_how_late_the_loop_was() -> None:
    async def main() -> None:
        server = scripted_server(LONG)
        watching = asyncio.create_task(server.watch_lag())
        async with connected(server) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.keep_busy(1.0)
            record = (await socket.until("vita.timeline"))["record"]
            assert record["loop_lag_s"] == pytest.approx(1.0, abs=TICK_S)
        watching.cancel()
        await asyncio.wait([watching])
        buckets = server.metrics.text().decode().splitlines()
        assert 'vita_duplex_loop_lag_seconds_bucket{le="0.5"}' in {line.split(" ")[0] for line in buckets}

    run(main())
