"""Coming back after the connection broke: nothing of what the server said is lost or repeated."""

import asyncio
import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.resumables import Resumables
from vita_duplex.server.realtime.event_writer import Frame
from vita_duplex.server.realtime.presence import FAREWELL_S, TOO_SLOW
from vita_duplex.server.realtime.resume import MISSED_LIMIT, Missed
from vita_duplex.server.server import Server

LONG = ScriptedReply(transcript="tell me more", text=" ".join(f"word{n}" for n in range(40)) + ".")
SLOW = ScriptedReply(transcript="tell me more", text="It took a while.", verdict_s=1.0)
RESUMABLE = "vita_events=true&pauses=true&resume=true"


def errors(socket: Socket) -> list[str]:
    return [event["error"]["code"] for event in socket.all("error")]


def numbers(events: list[Json]) -> list[int]:
    return [int(event["event_id"].removeprefix("event_")) for event in events if event["event_id"].startswith("event_")]


def back(first: Socket, got: int | None = None) -> str:
    """The query with which a client that got so many events comes back."""
    token = first.all("session.created")[0]["resume_token"]
    last = first.events[: len(first.events) if got is None else got][-1]["event_id"]
    return f"{RESUMABLE}&resume_token={token}&last_event_id={last}"


def samples(events: list[Json]) -> bytes:
    return b"".join(
        base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"
    )


async def uninterrupted(server: Server) -> bytes:
    async with connected(server, RESUMABLE) as socket:
        await socket.speak()
        await socket.until("response.done")
        return samples(socket.events)


def test_only_who_asks_gets_a_token() -> None:
    async def script(query: str) -> Json:
        async with connected(scripted_server(LONG), query) as socket:
            return await socket.until("session.created")

    assert "resume_token" not in run(script("vita_events=true"))
    created = run(script(RESUMABLE))
    assert len(created["resume_token"]) >= 32
    assert created["resume_s"] == 30


@pytest.mark.parametrize("away_s", [0.0, 0.5, 29.0])
@pytest.mark.parametrize("in_flight", [0, 1, 7])
@pytest.mark.parametrize("said", [0.3, 1.91])
def test_a_reply_goes_on_at_the_sample_where_the_connection_broke(away_s: float, in_flight: int, said: float) -> None:
    """`in_flight` events were sent and never arrived."""

    async def script() -> None:
        whole = await uninterrupted(scripted_server(LONG))
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            await first.speak()
            await first.until("response.output_audio.delta")
            await asyncio.sleep(said)
            first.leave()
            await asyncio.sleep(away_s)
            assert server.sessions == 1
            got = len(first.events) - in_flight
            async with connected(server, back(first, got)) as second:
                done = await second.until("response.done")
                resumed = second.events[0]
                assert (resumed["type"], resumed["replayed"]) == ("session.resumed", in_flight)
                seen = [*first.events[:got], *second.events]
                assert samples(seen) == whole
                assert numbers(seen) == sorted(set(numbers(seen)))
                assert done["response"]["output"][0]["content"][0]["transcript"] == LONG.text
        assert server.sessions == 0

    run(script())


def test_while_the_client_is_away_nothing_is_spoken() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            await first.speak()
            await first.until("response.output_audio.delta", 10)
            first.leave()
            await asyncio.sleep(20)
            async with connected(server, back(first)) as second:
                await asyncio.sleep(0.01)
                assert second.kinds() == ["session.resumed"]
                await second.until("response.done")

    run(script())


def test_a_verdict_that_came_meanwhile_is_told_and_the_reply_waits() -> None:
    async def script() -> None:
        server = scripted_server(SLOW)
        async with connected(server, RESUMABLE) as first:
            await first.speak(0.5)
            first.leave()
            await asyncio.sleep(10)
            async with connected(server, back(first)) as second:
                await second.until("response.done")
                replayed = second.kinds()[1 : second.events[0]["replayed"] + 1]
                assert "vita.verdict" in replayed
                assert replayed[-1] == "response.content_part.added", "not a sample of it before the client was back"
                assert len(samples(second.events)) == len(SLOW.text) * 24_000 // 15 * 2

    run(script())


def test_the_dialogue_and_the_settings_are_still_there() -> None:
    async def script() -> None:
        server = scripted_server(SLOW)
        async with connected(server, RESUMABLE) as first:
            session = {"type": "realtime", "instructions": "Be kind."}
            first.put({"type": "session.update", "session": session})
            await first.speak(0.5)
            await first.until("response.done")
            first.leave()
            async with connected(server, back(first)) as second:
                assert (await second.until("session.resumed"))["session"]["instructions"] == "Be kind."
                content = [{"type": "input_text", "text": "and now?"}]
                item = {"type": "message", "role": "user", "content": content}
                second.put({"type": "conversation.item.create", "item": item})
                second.put({"type": "response.create"})
                await second.until("response.done")
                assert server.parts is not None
                asked = [query for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]
                assert max(len(query.history) for query in asked) == 2

    run(script())


def test_the_old_connection_is_fenced_off() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            await first.speak()
            await first.until("response.output_audio.delta", 10)
            async with connected(server, back(first)) as second:
                await second.until("response.output_audio.delta")
                assert first.closed == (4001, "the session goes on in another connection")
                count = len(first.events)
                first.put({"type": "response.cancel"})
                done = await second.until("response.done")
                assert done["response"]["status"] == "completed"
                assert len(first.events) == count
                assert samples([*first.events, *second.events]) == await uninterrupted(scripted_server(LONG))

    run(script())


def test_after_thirty_seconds_the_session_is_over() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            await first.until("session.created")
            first.leave()
            await asyncio.sleep(29.9)
            assert server.sessions == 1
            await asyncio.sleep(0.2)
            assert server.sessions == 0
            async with connected(server, back(first)) as second:
                await second.until("error")
                assert errors(second) == ["session_not_found"]
                assert second.closed == (1008, "session_not_found")

    run(script())


def test_who_says_goodbye_is_not_waited_for() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            await first.until("session.created")
            first.leave(1000)
            await asyncio.sleep(0.1)
            assert server.sessions == 0

    run(script())


def test_a_wrong_token_opens_nothing() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            await first.until("session.created")
            for token in ("x", first.all("session.created")[0]["resume_token"][:-1], "é"):
                async with connected(server, f"resume_token={token}") as second:
                    await second.until("error")
                    assert errors(second) == ["session_not_found"]
            assert first.closed is None

    run(script())


def test_a_token_is_worth_nothing_with_another_key() -> None:
    sessions: Resumables[str] = Resumables()
    with sessions.holding("token", "alice", "hers"):
        assert sessions.find("token", "alice") == "hers"
        assert sessions.find("token", "bob") is None
        assert sessions.find("token", None) is None
    assert sessions.find("token", "alice") is None


def test_binary_audio_is_replayed_as_well() -> None:
    async def script() -> None:
        whole = await uninterrupted(scripted_server(LONG))
        server = scripted_server(LONG)
        query = f"{RESUMABLE}&binary_audio=true"
        async with connected(server, query) as first:
            await first.speak()
            await first.until("response.content_part.added")
            await asyncio.sleep(1)
            first.leave()
            last = int.from_bytes(first.frames[9][4:8], "little")
            token = first.all("session.created")[0]["resume_token"]
            async with connected(server, f"{query}&resume_token={token}&last_event_id=event_{last}") as second:
                await second.until("response.done")
                assert b"".join(frame[8:] for frame in [*first.frames[:10], *second.frames]) == whole

    run(script())


# ── much was missed, or nothing is read ────────────────────────────────────────────────

WORDS = " ".join("abcdefghij"[n % 10] * 8 for n in range(101)) + "."
EPIC = ScriptedReply(transcript="tell me all", text=WORDS, token_s=0.001)
MINUTE = len(WORDS) / 15
"""Seconds it takes to say that."""


def typed(text: str) -> list[Json]:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    return [{"type": "conversation.item.create", "item": item}, {"type": "response.create"}]


async def ask(socket: Socket) -> None:
    for event in typed("tell me all"):
        socket.put(event)
    await socket.until("response.output_audio.delta")


def test_a_client_that_missed_a_minute_of_speech_gets_it_and_the_session_goes_on() -> None:
    async def script() -> None:
        server = scripted_server(EPIC)
        async with connected(server, RESUMABLE) as first:
            await ask(first)
            await asyncio.sleep(MINUTE - 2)
            first.leave()
            await asyncio.sleep(1)
            got = first.kinds().index("response.output_audio.delta")
            async with connected(server, back(first, got)) as second:
                assert (await second.until("session.resumed"))["replayed"] > 1400
                await second.until("response.done")
                assert second.closed is None
                seconds = len(samples(second.events)) / 2 / 24_000
                assert seconds == pytest.approx(MINUTE, rel=0.01)

    assert 60 < MINUTE < 62
    run(script())


def test_a_link_that_dies_during_a_long_reply_does_not_end_the_session() -> None:
    async def script() -> None:
        server = scripted_server(EPIC)
        async with connected(server, RESUMABLE) as first:
            await ask(first)
            got = len(first.events)
            first.reads = False
            await asyncio.sleep(40)  # what waits for it is too much after 20 s
            assert first.closed == (4002, TOO_SLOW)
            assert server.sessions == 1
            async with connected(server, back(first, got)) as second:
                await second.until("response.done")
                seconds = len(samples([*first.events[:got], *second.events])) / 2 / 24_000
                assert seconds == pytest.approx(MINUTE, rel=0.01)

    run(script())


def test_no_limit_is_outlived_by_coming_back() -> None:
    async def script() -> None:
        server = scripted_server(LONG, limits={"session_s": 20})
        async with connected(server, RESUMABLE) as first:
            await first.until("session.created")
            await asyncio.sleep(3)
            first.reads = False
            await asyncio.sleep(18.5)
            async with connected(server, back(first)) as second:
                await second.until("error")
                assert errors(second) == ["session_not_found"]
            await asyncio.sleep(FAREWELL_S)
            assert server.sessions == 0

    run(script())


def test_the_end_of_the_server_is_not_outlived_by_coming_back() -> None:
    async def script() -> None:
        server = scripted_server(LONG, server={"grace_s": 100})
        async with connected(server, RESUMABLE) as first:
            await first.until("session.created")
            first.reads = False
            server.drain.begin(asyncio.get_running_loop().time())
            await asyncio.sleep(1)
            async with connected(server, back(first)) as second:
                await second.until("error")
                assert errors(second) == ["session_not_found"]
            await asyncio.sleep(FAREWELL_S)
            assert server.sessions == 0

    run(script())


def test_large_events_that_nobody_acknowledges_are_not_kept_without_bound() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, RESUMABLE) as first:
            for number in range(300):  # 6 MB
                session = {"type": "realtime", "instructions": str(number) + "x" * 19_990}
                first.put({"type": "session.update", "session": session})
            await first.until("session.updated", 300)
            first.leave()
            await asyncio.sleep(1)
            async with connected(server, back(first, 2)) as late:
                await late.until("error")
                assert errors(late) == ["resume_gap"]
            async with connected(server, back(first, 100)) as second:
                assert (await second.until("session.resumed"))["replayed"] == len(first.events) - 100

    run(script())


# ── what is kept ───────────────────────────────────────────────────────────────────────


def note(missed: Missed, number: int, ms: int = 0, size: int = 1) -> None:
    """Send an event, or so much audio."""
    missed.note(Frame(number, b"", "item_reply_1" if ms else None, ms), str(number), size)


def kept(missed: Missed, last: int = 0) -> list[int] | None:
    sent = missed.since(last)
    return None if sent is None else [int(data) for data in sent]


def test_what_was_played_need_not_be_kept() -> None:
    missed = Missed()
    for number, ms in enumerate((0, 40, 0, 41, 39, 0), 1):
        note(missed, number, ms)
    missed.forget("item_reply_2", 1000)
    assert kept(missed) == [1, 2, 3, 4, 5, 6]
    missed.forget("item_reply_1", 80)  # not all of the second chunk
    assert kept(missed) == [3, 4, 5, 6]
    assert kept(missed, 4) == [5, 6]
    missed.forget("item_reply_1", 120)
    assert kept(missed) == [6]


def test_a_client_that_missed_too_much_cannot_come_back() -> None:
    missed = Missed()
    for number in range(1, 13):
        note(missed, number, size=MISSED_LIMIT // 10)
    assert kept(missed, 1) is None
    assert kept(missed, 2) == list(range(3, 13))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 60), max_size=30), st.data())
def test_whatever_is_acknowledged_the_rest_is_there(sizes: list[int], data: Any) -> None:
    missed, ends, at = Missed(), {}, 0
    for number, ms in enumerate(sizes, 1):
        note(missed, number, ms)
        at += ms
        ends[number] = at if ms else None
    played = data.draw(st.integers(0, at + 10))
    missed.forget("item_reply_1", played)
    arrived = max((number for number, end in ends.items() if end is not None and end <= played), default=0)
    assert kept(missed) == [number for number in ends if number > arrived]
