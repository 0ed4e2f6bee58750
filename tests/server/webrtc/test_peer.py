"""Sessions over WebRTC: aiortc as a client, a server in a process of its own, real time."""

import asyncio
import re
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.served import served
from vita_duplex.server.access.auth import hashed

pytest.importorskip("aiortc")

from tests.support.webrtc import Caller, calling

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served("scripted") as port:
        yield port


async def test_a_question_is_answered_interrupted_and_answered_again(port: int) -> None:
    async with calling(port) as caller:
        assert caller.location.startswith("/v1/realtime/calls/rtc_")
        await caller.speak()
        await caller.until("output_audio_buffer.started")
        await caller.until_loud()
        await asyncio.sleep(1)
        began = await caller.speak(0.8)
        silent = caller.last_loud()
        print("silent after", round(1000 * (silent - began)), "ms")
        await caller.until("output_audio_buffer.cleared")
        await caller.until("output_audio_buffer.started", 2)
        await caller.until("response.done", 2)
        assert len(caller.all("output_audio_buffer.stopped")) == 1
        done = [event["response"]["status"] for event in caller.all("response.done")]
        assert done == ["cancelled", "completed"]
        assert not caller.all("response.output_audio.delta")
        assert not caller.all("error")


async def test_what_was_not_meant_for_it_holds_the_answer_for_a_moment(port: int) -> None:
    async with calling(port, "vita_events=true") as caller:
        for number in range(3):  # the third scripted utterance is somebody else's
            if number < 2:
                caller.put({"type": "response.cancel"})
            await caller.speak(0.8)
            if number < 2:
                await caller.until("response.created", number + 1)
                await caller.until_loud()
        await caller.until("vita.resume")
        held = max(time for time, event in caller.events if event["type"] == "vita.hold")
        await caller.until("response.done", 2)
        quiet = [level for time, level in caller.levels if held < time < held + 0.6 and level < 0.02]
        assert len(quiet) >= 5, "frames of 20 ms"
        assert caller.all("response.done")[1]["response"]["status"] == "completed"


async def test_the_settings_of_the_form_count_and_its_formats_do_not(port: int) -> None:
    session = {
        "type": "realtime",
        "model": "gpt-realtime",
        "instructions": "Be brief.",
        "audio": {"input": {"format": {"type": "audio/pcmu"}}},
    }
    async with calling(port, session=session) as caller:
        created = caller.all("session.created")[0]["session"]
        assert created["instructions"] == "Be brief."
        assert created["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 16000}
        caller.put({"type": "nonsense", "event_id": "e1"})
        assert (await caller.until("error"))["error"]["event_id"] == "e1"
        caller.channel.send(b"\x00\x01")
        assert (await caller.until("error", 2))["error"]["code"] == "invalid_json"
        caller.put({"type": "session.heartbeat"})
        await caller.until("session.heartbeat")


async def test_a_call_is_hung_up_by_its_client_and_by_the_application(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with calling(port) as caller:
            answer = await client.post(f"{caller.location}/hangup")
            assert answer.status_code == 200
            await asyncio.sleep(3)
            assert caller.connection.connectionState == "closed"
        async with calling(port):
            assert await sessions(client) == 1
        await asyncio.sleep(3)
        assert await sessions(client) == 0
        assert (await client.post("/v1/realtime/calls/rtc_none/hangup")).status_code == 404


async def sessions(client: httpx.AsyncClient) -> int:
    found = re.search(r"^vita_duplex_sessions (\d+)", (await client.get("/metrics")).text, re.M)
    assert found
    return int(found[1])


async def test_a_connection_that_breaks_is_taken_up_again_where_it_was(port: int) -> None:
    async with calling(port, "resume=true") as caller:
        token = caller.all("session.created")[0]["resume_token"]
        caller.put({"type": "session.update", "session": {"type": "realtime", "instructions": "Of before."}})
        last = (await caller.until("session.updated"))["event_id"]
        async with calling(port, f"resume_token={token}&last_event_id={last}", first="session.resumed") as again:
            resumed = again.all("session.resumed")[0]
            assert resumed["session"]["instructions"] == "Of before."
            assert resumed["replayed"] == 0
            await again.speak()
            await again.until("output_audio_buffer.started")
            await again.until_loud()


# ── bad input ──────────────────────────────────────────────────────────────────────────


async def offer() -> str:
    caller = Caller()
    try:
        return await caller.offer()
    finally:
        await caller.close()


def without_audio(sdp: str) -> str:
    return re.sub(r"m=audio.*?(?=m=)", "", sdp, flags=re.S)


def twice(sdp: str) -> str:
    audio = re.search(r"m=audio.*?(?=m=)", sdp, re.S)
    assert audio
    return sdp.replace(audio[0], audio[0] + audio[0].replace("a=mid:0", "a=mid:9"))


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "a megabyte": (lambda sdp: sdp + "a=x\r\n" * 200_000, "offer_too_large"),
    "nothing": (lambda sdp: "", "invalid_offer"),
    "no SDP": (lambda sdp: "hello", "invalid_offer"),
    "its beginning": (lambda sdp: sdp[:300], "invalid_offer"),
    "no audio": (without_audio, "invalid_offer"),
    "video only": (lambda sdp: sdp.replace("m=audio", "m=video"), "invalid_offer"),
    "two of audio": (twice, "invalid_offer"),
    "an answer": (lambda sdp: sdp.replace("a=setup:actpass", "a=setup:active"), "not_an_offer"),
    "no Opus": (lambda sdp: sdp.replace("opus/48000/2", "xopus/48000/2"), "unsupported_codec"),
    "no fingerprint": (lambda sdp: re.sub(r"a=fingerprint.*\r\n", "", sdp), "invalid_offer"),
    "a broken fingerprint": (lambda sdp: re.sub(r"(a=fingerprint):.*\r\n", r"\1:\r\n", sdp), "invalid_offer"),
    "broken numbers": (lambda sdp: re.sub(r"a=rtpmap:\d+ opus", "a=rtpmap:x opus", sdp), "unsupported_codec"),
    "a broken candidate": (lambda sdp: re.sub(r"a=candidate:.*", "a=candidate:1 2", sdp), "invalid_offer"),
    "no channel": (lambda sdp: re.sub(r"m=application.*", "", sdp, flags=re.S), "invalid_offer"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_offer_is_refused_in_words(port: int, name: str) -> None:
    spoil, code = BAD[name]
    sdp = spoil(await offer())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        answer = await client.post("/v1/realtime/calls", content=sdp, headers={"Content-Type": "application/sdp"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert await sessions(client) == 0


async def test_the_forms_of_a_request_are_checked(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        form = {"sdp": (None, await offer())}
        for request, code in [
            ({"json": {}}, "invalid_value"),
            ({"files": {"session": (None, "{}")}}, "invalid_value"),
            ({"files": {**form, "session": (None, "{")}}, "invalid_json"),
            ({"files": {**form, "session": (None, "[]")}}, "invalid_value"),
            ({"files": {**form, "session": (None, '{"output_modalities": ["smell"]}')}}, "invalid_value"),
            ({"content": b"\xff", "headers": {"Content-Type": "application/sdp"}}, "invalid_offer"),
        ]:
            answer = await client.post("/v1/realtime/calls", **request)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert await sessions(client) == 0


async def test_who_never_connects_gives_the_place_back(port: int) -> None:
    """The offer of somebody who is gone: 30 s."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        answer = await client.post(
            "/v1/realtime/calls", content=await offer(), headers={"Content-Type": "application/sdp"}
        )
        assert answer.status_code == 201
        assert await sessions(client) == 1
        await asyncio.sleep(32)
        assert await sessions(client) == 0


async def test_a_call_wants_the_key_that_the_websocket_wants() -> None:
    with served("scripted", "--set", f"access.keys.laptop={hashed('sk-right')}") as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            sdp = await offer()
            for key, status in [(None, 401), ("sk-wrong", 401)]:
                headers = {"Content-Type": "application/sdp", **({"Authorization": f"Bearer {key}"} if key else {})}
                answer = await client.post("/v1/realtime/calls", content=sdp, headers=headers)
                assert answer.status_code == status
            right = {"Authorization": "Bearer sk-right"}
            secret = {"session": {"type": "realtime", "instructions": "Of the key."}}
            answer = await client.post("/v1/realtime/client_secrets", json=secret, headers=right)
            ephemeral = {"Authorization": f"Bearer {answer.json()['value']}"}
            async with calling(port, headers=ephemeral) as caller:
                assert caller.all("session.created")[0]["session"]["instructions"] == "Of the key."
                assert (await client.post(f"{caller.location}/hangup")).status_code == 401
                assert (await client.post(f"{caller.location}/hangup", headers=right)).status_code == 200
