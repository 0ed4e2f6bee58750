"""Keys, limits, the queue and the end of the server, as a client on the wire sees them; on virtual time."""

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.realtime.waiting import KEPT_CHARS, KEPT_FRAMES
from vita_duplex.server.server import Server

SHORT = ScriptedReply(text="It is short, and this is its end.")
LONG = ScriptedReply(text=" ".join(f"word{n}" for n in range(40)) + ".")
KEY, OTHER = new_key(), new_key()
KEYS = {"keys": {"laptop": hashed(KEY), "phone": hashed(OTHER)}}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def codes(client: Socket) -> list[str]:
    return [event["error"]["code"] for event in client.all("error")]


async def outcome(server: Server, subprotocols: tuple[str, ...] = (), **headers: str) -> str | int | None:
    """The subprotocol or "session", or the status of the refusal."""
    async with connected(server, subprotocols=subprotocols, headers=headers) as client:
        await client.some()
        return client.denied or client.subprotocol or "session"


def test_with_keys_only_those_who_have_one_get_a_session() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS)
        assert await outcome(server) == 401
        assert await outcome(server, authorization=f"Bearer {new_key()}") == 401
        assert await outcome(server, authorization=f"Bearer {KEY}") == "session"
        assert await outcome(server, ("realtime", f"openai-insecure-api-key.{KEY}")) == "realtime"
        assert server.sessions == 0

    run(script())


def test_web_pages_from_elsewhere_get_no_session() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server, headers={"origin": "https://evil.example", "host": "127.0.0.1:8000"}) as page:
            told = await page.until("error")
            assert told["error"]["code"] == "origin_not_allowed"
            assert "access.origins" in told["error"]["message"]
        assert (page.closed, page.kinds()) == ((1008, "origin_not_allowed"), ["error"])
        assert await outcome(server, origin="http://127.0.0.1:8000", host="127.0.0.1:8000") == "session"

    run(script())


def test_a_session_of_an_ephemeral_key_begins_with_its_settings() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS)
        wanted = SessionUpdateFields(type="realtime", instructions="be brief")
        key, _ = server.access.issue("laptop", wanted, 600, time.time())
        async with connected(server, headers=bearer(key)) as client:
            assert (await client.until("session.created"))["session"]["instructions"] == "be brief"

    run(script())


def test_wrong_settings_of_an_ephemeral_key_are_told_and_the_session_begins_without_them() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS)
        audio = {"output": {"voice": "nobody"}}
        wanted = SessionUpdateFields.model_validate({"type": "realtime", "instructions": "be brief", "audio": audio})
        key, _ = server.access.issue("laptop", wanted, 600, time.time())
        async with connected(server, headers=bearer(key)) as client:
            assert (await client.until("error"))["error"]["param"] == "session.audio.output.voice"
            assert client.kinds()[:2] == ["session.created", "error"]
            assert client.events[0]["session"]["instructions"] == ""
            await client.speak()
            await client.until("response.done")

    run(script())


def test_a_key_has_only_so_many_sessions_and_others_are_not_affected() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS, limits={"key_sessions": 1})
        async with connected(server, headers=bearer(KEY)) as first, connected(server, headers=bearer(KEY)) as second:
            await first.until("session.created")
            await second.until("error")
            assert codes(second) == ["key_session_limit_reached"]
            async with connected(server, headers=bearer(OTHER)) as other:
                await other.until("session.created")
        async with connected(server, headers=bearer(KEY)) as again:
            await again.until("session.created")

    run(script())


def test_the_minutes_of_a_key_end_its_session() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS, limits={"key_minutes_per_day": 2})
        async with connected(server, headers=bearer(KEY)) as client:
            await client.until("error", limit_s=140)
            await asyncio.sleep(1)
            assert codes(client) == ["key_minutes_used_up"]
            assert client.closed == (1000, "key_minutes_used_up")
        async with connected(server, headers=bearer(KEY)) as again:
            error = (await again.until("error"))["error"]
            assert error["code"] == "key_minutes_used_up"
            assert error["retry_after_s"] > 1000

    run(script())


@pytest.mark.parametrize(
    ("limits", "sends", "code", "after_s"),
    [
        ({"idle_s": 30}, False, "session_idle", 30),
        ({"idle_s": 30, "session_s": 100}, True, "session_expired", 100),
    ],
)
def test_sessions_end_when_idle_and_at_their_longest(limits: Json, sends: bool, code: str, after_s: float) -> None:
    async def script() -> None:
        server = scripted_server(SHORT, limits=limits)
        async with connected(server) as client:
            began = asyncio.get_running_loop().time()
            while client.closed is None:
                if sends:
                    client.put({"type": "input_audio_buffer.clear"})
                await asyncio.sleep(1)
            assert asyncio.get_running_loop().time() - began == pytest.approx(after_s, abs=1.1)
            assert codes(client) == [code]
            assert client.closed == (1000, code)
            assert client.kinds()[-1] == "error"

    run(script())


def test_who_sends_more_bytes_than_its_key_may_is_slowed_down_and_told_once() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS, limits={"key_bytes_per_s": 100_000})
        async with connected(server, headers=bearer(KEY)) as greedy, connected(server, headers=bearer(OTHER)) as other:
            began = asyncio.get_running_loop().time()
            for _ in range(18):  # 1 MiB each; 16 of them are saved up
                greedy.put(json.dumps({"type": "input_audio_buffer.clear", "event_id": "x", "pad": "x" * 2**20}))
            other.put({"type": "input_audio_buffer.clear"})
            await other.until("input_audio_buffer.cleared", limit_s=0.1)
            await greedy.until("input_audio_buffer.cleared", 18)
            assert asyncio.get_running_loop().time() - began == pytest.approx(2 * 2**20 / 100_000, rel=0.05)
            assert codes(greedy) == ["rate_limit_exceeded"]

    run(script())


def test_who_is_read_more_slowly_is_not_missed_meanwhile() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, access=KEYS, limits={"key_bytes_per_s": 100_000, "idle_s": 10})
        async with connected(server, headers=bearer(KEY)) as greedy:
            greedy.put({"type": "session.heartbeat"})
            for _ in range(6):  # the last of them is paid for after 21 s
                greedy.put(json.dumps({"type": "input_audio_buffer.clear", "pad": "x" * 3 * 2**20}))
            await greedy.until("input_audio_buffer.cleared", 6)
            assert (codes(greedy), greedy.closed) == (["rate_limit_exceeded"], None)

    run(script())


def test_a_flood_of_audio_is_taken_up_to_a_bound_and_then_answered_with_an_error() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT)) as client:
            frame = np.zeros(4800, np.int16).tobytes()
            for _ in range(10 * 50):  # ten seconds, ten times as fast as speech
                client.put(frame)
                await asyncio.sleep(0.02)
            assert codes(client) == ["input_audio_overflow"]

    run(script())


# ── the queue ──────────────────────────────────────────────────────────────────────────


def full(**server: Any) -> Server:
    return scripted_server(SHORT, server={"max_sessions": 1, **server})


def test_who_waits_is_told_its_place_until_the_session_begins() -> None:
    async def script() -> None:
        server = full()
        async with connected(server) as third_later:
            await third_later.until("session.created")
            async with connected(server) as second:
                async with connected(server) as first:
                    pass
                place = await second.until("vita.queue")
                assert (place["position"], place["estimate_s"]) == (1, 120)
                async with connected(server) as third:
                    assert (await third.until("vita.queue"))["position"] == 2
                third_later.leave()
                await second.until("session.created")
                assert second.kinds()[-2:] != ["vita.queue", "vita.queue"]
            assert first.closed is None
        assert (server.sessions, server.admission.waiting) == (0, 0)

    run(script())


def test_settings_sent_in_the_queue_count_in_the_session_audio_does_not_and_both_are_bounded() -> None:
    async def script() -> None:
        server = full()
        async with connected(server) as first, connected(server) as second:
            await second.until("vita.queue")
            await second.speak()
            await second.speak(binary=True)
            for number in range(10 * KEPT_FRAMES):
                second.put({"type": "session.update", "session": {"type": "realtime", "instructions": f"be {number}"}})
            await asyncio.sleep(1)
            first.leave()
            updated = await second.until("session.updated", KEPT_FRAMES)
            assert updated["session"]["instructions"] == f"be {KEPT_FRAMES - 1}"
            await asyncio.sleep(2)
            assert len(second.all("session.updated")) == KEPT_FRAMES
            assert second.all("vita.speech") == second.all("error") == []

    run(script())


def test_a_long_text_sent_in_the_queue_is_dropped() -> None:
    async def script() -> None:
        server = full()
        async with connected(server) as first, connected(server) as second:
            await second.until("vita.queue")
            second.put({"type": "session.update", "event_id": "x" * KEPT_CHARS})
            second.put({"type": "input_audio_buffer.clear"})
            await asyncio.sleep(1)
            first.leave()
            await second.until("input_audio_buffer.cleared")
            assert second.all("error") == []

    run(script())


def test_a_full_queue_and_clients_that_know_no_queue_are_refused_with_a_time_to_retry() -> None:
    async def script() -> None:
        server = full(max_waiting=1)
        async with connected(server), connected(server) as waits, connected(server) as late:
            await waits.until("vita.queue")
            error = (await late.until("error"))["error"]
            assert (error["code"], error["retry_after_s"]) == ("session_limit_reached", 240)
            for query in ("", "vita_events=true"):
                async with connected(server, query) as stock:
                    await stock.until("error")
                    assert stock.kinds() == ["error"]
                    assert stock.closed == (1013, "session_limit_reached")

    run(script())


def test_to_wait_in_the_queue_is_an_ability_of_its_own() -> None:
    async def script() -> None:
        server = full()
        async with connected(server) as first, connected(server, "queue=true") as waits:
            await waits.until("vita.queue")
            first.leave()
            await waits.until("session.created")
            await waits.speak()
            await waits.until("response.done")
            assert {kind for kind in waits.kinds() if kind.startswith("vita.")} == {"vita.queue"}

    run(script())


# ── the end of the server ──────────────────────────────────────────────────────────────


def begin_drain(server: Server) -> None:
    server.drain.begin(asyncio.get_running_loop().time())


def test_while_the_server_stops_turns_finish_and_everybody_is_told() -> None:
    async def script() -> None:
        server = scripted_server(LONG, server={"grace_s": 100})
        async with connected(server) as talks, connected(server, query="") as stock, connected(server) as idle:
            for client in (talks, stock):
                await client.speak()
                await client.until("response.output_audio.delta")
            await idle.until("session.created")
            begin_drain(server)
            await asyncio.sleep(1)
            assert (await talks.until("vita.draining"))["seconds_left"] == 98
            assert codes(stock) == ["server_draining"]
            assert idle.closed == (1012, "server_draining")
            assert (talks.closed, stock.closed) == (None, None)
            for client in (talks, stock):
                assert (await client.until("response.done"))["response"]["status"] == "completed"
            await asyncio.sleep(1)
            assert talks.closed == stock.closed == (1012, "server_draining")
            assert "response.done" in talks.kinds(), "all of it went out before the end"
            assert server.sessions == 0

    run(script())


def test_an_utterance_under_way_is_answered_before_the_server_stops() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, server={"grace_s": 100})
        async with connected(server) as client:
            speaking = asyncio.create_task(client.speak())
            await asyncio.sleep(0.8)
            begin_drain(server)
            await client.until("response.done")
            await speaking

    run(script())


def test_a_server_that_stops_opens_no_session_and_lets_nobody_wait() -> None:
    async def script() -> None:
        server = scripted_server(LONG, server={"max_sessions": 1, "grace_s": 100})
        async with connected(server) as talks, connected(server) as waits:
            await talks.speak()
            await talks.until("response.output_audio.delta")
            begin_drain(server)
            async with connected(server) as late:
                await late.until("error")
                assert codes(late) == ["server_draining"]
            await waits.until("error")
            assert codes(waits) == ["server_draining"]

    run(script())
