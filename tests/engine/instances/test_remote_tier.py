"""Engines behind one name: they appear, drain, hang and die, and no reply is cut."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.support.scripted_vllm import TEXT, ScriptedVllm
from tests.support.served import free_port
from tests.support.sockets import Socket, connected, scripted_server
from vita_duplex.config import ConfigError
from vita_duplex.engine.instances import remote_http, remote_tier
from vita_duplex.engine.instances.remote import RemoteConfig
from vita_duplex.engine.instances.remote_tier import RemoteTier, resolve
from vita_duplex.engine.instances.supervisor import Supervisor
from vita_duplex.engine.pool import Pool, Seat
from vita_duplex.server.server import Server
from vita_duplex.settings import load_config

A, B, C = "127.0.0.2:9", "127.0.0.3:9", "127.0.0.4:9"
NAME = RemoteConfig(service="http://engines:9")


def names(pool: Pool) -> list[str]:
    return [instance.name for instance in pool.instances]


def tier(pool: Pool) -> RemoteTier:
    return RemoteTier(pool, NAME)


def talking(seat: Seat) -> None:
    seat.update(seat.generator, idle=False)


# ── who is in the pool ─────────────────────────────────────────────────────────────────────


def test_engines_come_and_go_with_their_addresses() -> None:
    pool = Pool([])
    engines = tier(pool)
    engines.look({A, B})
    assert names(pool) == ["1", "2"]
    assert pool.doubted == {"1", "2"}, "they have computed nothing yet"
    engines.look({B, C})
    assert names(pool) == ["2", "3"]
    engines.look({A, B, C})
    assert names(pool) == ["2", "3", "1"], "names are few: they are labels of metrics"


def test_a_name_that_stands_for_nothing_changes_nothing() -> None:
    pool = Pool([])
    engines = tier(pool)
    engines.look({A, B})
    engines.look(())
    assert (names(pool), pool.draining) == (["1", "2"], frozenset())


def test_an_engine_that_leaves_is_kept_until_the_session_that_talks_on_it_is_idle() -> None:
    pool = Pool([])
    engines = tier(pool)
    engines.look({A, B})
    seat = pool.seat()
    talking(seat)
    leaving = {"1": A, "2": B}[seat.bound.name]
    engines.look({A, B, C} - {leaving})
    assert len(names(pool)) == 3
    assert seat.bound.name in pool.draining
    seat.update(seat.generator, idle=True)
    assert seat.bound.name not in pool.draining
    engines.look({A, B, C} - {leaving})
    assert len(names(pool)) == 2
    assert {seat.bound.name, seat.listening.name} == set(names(pool)), "two different ones"


def test_an_address_that_comes_back_while_it_leaves_is_taken_back_and_an_operators_drain_stays() -> None:
    pool = Pool([])
    engines = tier(pool)
    engines.look({A, B})
    seats = [pool.seat(), pool.seat()]
    for seat in seats:
        talking(seat)
    engines.look({B})
    assert pool.draining == {"1"}
    engines.look({A, B})
    assert pool.draining == frozenset()
    pool.drain("2")
    engines.look({A, B})
    assert pool.draining == {"2"}


def test_new_slots_go_to_the_engine_that_others_leave_alone() -> None:
    pool = Pool([])
    engines = tier(pool)
    engines.look({A, B, C})
    for instance in pool.instances[:2]:
        for _ in range(20):
            instance._weigh(6)  # type: ignore[attr-defined] - what a server says it has, second by second
    engines.look({A, B, C})
    seats = [pool.seat() for _ in range(5)]
    assert [seat.bound.name for seat in seats] == ["3"] * 5
    assert pool.seat().bound.name in ("1", "2", "3")


def test_our_own_requests_are_not_the_work_of_others() -> None:
    pool = Pool([])
    tier(pool).look({A})
    [instance] = pool.instances
    instance.in_flight = 6  # type: ignore[attr-defined]
    for _ in range(20):
        instance._weigh(6)  # type: ignore[attr-defined]
    assert instance.elsewhere == 0  # type: ignore[attr-defined]


def test_addresses_and_a_name_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"engine\.remote\.urls, or engine\.remote\.service"):
        load_config(
            None, {}, ["engine.kind=remote", "engine.remote.urls=[http://a:1]", "engine.remote.service=http://b:1"]
        )


async def test_names_are_resolved_by_the_system() -> None:
    assert "127.0.0.1:8000" in await resolve("localhost", 8000)
    with pytest.raises(OSError, match=r"\w"):
        await resolve("no-such-name.invalid", 8000)


# ── with servers ───────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def gateway(found: Collection[str]) -> AsyncIterator[Server]:
    """A server whose engines are those of `found`, which may change."""
    server = scripted_server()
    assert server.parts is not None
    pool = Pool([])
    server.parts.pools["scripted"] = pool  # type: ignore[index]

    async def look(host: str, port: int) -> Collection[str]:
        return frozenset(found)

    async def blocking(work: object) -> None:
        work()  # type: ignore[operator]

    engines = RemoteTier(pool, NAME, resolve=look)
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(engines.run()), tasks.create_task(Supervisor(pool, blocking).run())]
        yield server
        for task in working:
            task.cancel()
    pool.close()


async def until(condition: object, limit_s: float = 10) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - it is about other parts
            await asyncio.sleep(0.02)


def said(client: Socket) -> list[str]:
    """The text of each reply."""
    return [event["transcript"] for event in client.all("response.output_audio_transcript.done")]


async def asks(client: Socket, number: int) -> None:
    content = [{"type": "input_text", "text": "what is it?"}]
    client.put({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}})
    client.put({"type": "response.create"})
    await client.until("response.done", number)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_tier, "LOOK_S", 0.05)
    monkeypatch.setattr(remote_http, "WATCH_S", 0.05)


@pytest.mark.real
@pytest.mark.usefixtures("quick")
async def test_sixteen_sessions_talk_while_every_engine_is_replaced_one_hangs_and_one_dies() -> None:
    port = free_port()
    engines = [ScriptedVllm(f"127.0.0.{number}", port) for number in range(2, 8)]
    first, second, hanging, dying, *last = engines
    found = {first.address, second.address}
    async with AsyncExitStack() as stack:
        for engine in engines:
            await stack.enter_async_context(engine.serving())
        server = await stack.enter_async_context(gateway(found))
        assert server.parts is not None
        pool = server.parts.pools["scripted"]
        await until(lambda: len(pool.instances) == 2 and not pool.doubted)
        clients = [await stack.enter_async_context(connected(server)) for _ in range(16)]
        for client in clients:
            await client.until("session.created")

        async def everybody(number: int) -> None:
            await asyncio.gather(*(asks(client, number) for client in clients))

        talk = asyncio.create_task(everybody(1))
        await until(lambda: first.running and second.running)
        found |= {hanging.address, dying.address}
        found -= {first.address, second.address}
        await talk  # on engines whose addresses are gone
        await until(lambda: len(pool.instances) == 2)
        await until(lambda: not pool.doubted)
        talk = asyncio.create_task(everybody(2))
        await until(lambda: hanging.running and dying.running)
        found |= {engine.address for engine in last}
        await until(lambda: len(pool.instances) == 4)
        hanging.hangs = True
        dying.die()
        await talk
        assert all(engine.begun for engine in engines[:4])
        assert sum(engine.begun for engine in last) > 0
        found -= {hanging.address, dying.address}
        await everybody(3)
        statuses = [event["response"]["status"] for client in clients for event in client.all("response.done")]
        assert statuses == ["completed"] * 48
        for client in clients:
            assert said(client) == [TEXT] * 3, "nothing twice, nothing left out"
        assert {session[:5] for session in first.sessions} == {"sess_", ""}, "sessions' requests and warm-ups"
