"""Telephone calls as providers send them, over in-process WebSockets on virtual time."""

import asyncio
import logging
import time

import pytest

from tests.support.sockets import Socket, connected, scripted_server
from tests.support.telephone import CALL, FRAME, STREAM, Telephone, calling
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.access.auth import hashed
from vita_duplex.server.realtime.client_events import SessionUpdateFields
from vita_duplex.server.server import Server
from vita_duplex.server.telephony.signature import sign

LONG = ScriptedReply(text=" ".join("abcdefghij"[n % 10] * 5 for n in range(60)) + ".")
SHORT = ScriptedReply(text="It is short.")
NOISE = ScriptedReply(p1=0.05)
PROVIDERS = ["twilio", "telnyx", "plivo"]


async def reply_begins(phone: Telephone, limit_s: float = 10) -> None:
    before = len(phone.heard)
    for _ in range(int(limit_s / 0.1)):
        await phone.be_silent(0.1)
        if len(phone.loud(before)) > 400:
            return
    raise AssertionError("nothing is heard")


def line(name: str) -> Server:
    return scripted_server(access={"keys": {"laptop": hashed(name)}})


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_call_is_answered_interrupted_and_hung_up(provider: str) -> None:
    async def script() -> None:
        server = scripted_server(LONG, SHORT)
        async with calling(server, provider) as phone:
            await phone.speak()
            await reply_begins(phone)
            began = len(phone.heard) / 8000
            await phone.speak(0.6)
            assert len(phone.clears) == 1
            assert phone.clears[0] - began <= 0.25, "the loud frame came at `began`"
            silent_from = len(phone.heard) - 1600
            assert phone.loud(silent_from) == b""
            await reply_begins(phone)
            phone.put("stop", stop={"accountSid": "AC1", "callSid": CALL})
            await asyncio.sleep(0.1)
            assert server.sessions == 0

    run(script())


def test_a_held_reply_goes_on_where_it_was_heard_to() -> None:
    """Nothing of it is missing, and no more than a frame comes twice: a mark is so coarse."""

    async def heard(reply: ScriptedReply, *, interrupted: bool) -> tuple[bytes, int]:
        async with calling(scripted_server(LONG, reply)) as phone:
            await phone.speak()
            await reply_begins(phone)
            if interrupted:
                await phone.speak(0.5)
            await phone.be_silent(30)
            return phone.loud(), len(phone.clears)

    async def script() -> None:
        whole, clears = await heard(NOISE, interrupted=False)
        assert clears == 0
        held, clears = await heard(NOISE, interrupted=True)
        assert clears == 1
        cut = next(at for at, pair in enumerate(zip(held, whole, strict=False)) if pair[0] != pair[1])
        assert 0 <= len(held) - len(whole) <= 2 * FRAME
        assert held[cut:].endswith(whole[cut:])
        assert len(whole) - cut > 8000, "much of it was still to come"

    run(script())


def test_marks_prove_what_was_heard() -> None:
    """A line that plays nothing has heard nothing, whatever the clock says."""

    async def script() -> None:
        server = scripted_server(LONG, SHORT)
        async with calling(server) as phone, connected(server, f"call_id={CALL}") as application:
            await phone.speak()
            phone._pass = lambda length: None  # type: ignore[method-assign]
            await phone.be_silent(3)
            first = next(event for event in phone.socket.events if event["event"] == "mark")
            phone.put("mark", mark=first["mark"])
            await phone.be_silent(0.1)
            await phone.speak(0.6)
            await phone.be_silent(1)
            item = (await application.until("response.done"))["response"]["output"][0]
            application.put({"type": "conversation.item.retrieve", "item_id": item["id"]})
            heard = (await application.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
            assert len(heard.split()) <= 2

    run(script())


def test_keys_are_events_for_the_application_that_has_joined_the_call() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with calling(server) as phone:
            await phone.be_silent(0.1)
            async with connected(server, f"call_id={CALL}") as application:
                await application.until("session.created")
                phone.put("dtmf", dtmf={"track": "inbound_track", "digit": "#"})
                pressed = await application.until("input_audio_buffer.dtmf_event_received")
                assert pressed["event"] == "#"
                application.put(
                    {"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}}
                )
                updated = await application.until("session.updated")
                assert updated["session"]["instructions"] == "Be brief."
                assert updated["session"]["audio"]["output"]["format"] == {"type": "audio/pcmu"}
                await phone.speak()
                await reply_begins(phone)
                await application.until("response.done")
                assert application.frames == []
                phone.put("stop", stop={})
                await asyncio.sleep(0.1)
                assert application.closed == (1000, "the session is over")

    run(script())


def test_parameters_of_the_call_choose_voice_and_instructions_and_cannot_choose_the_format() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        parameters = {"instructions": "Be polite.", "language": "en", "customer": "17"}
        async with calling(server, parameters=parameters) as phone, connected(server, f"call_id={CALL}") as application:
            await phone.be_silent(0.1)
            session = (await application.until("session.created"))["session"]
            assert session["instructions"] == "Be polite."
            assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
            pcm = {"format": {"type": "audio/pcm", "rate": 24000}}
            application.put(
                {"type": "session.update", "session": {"type": "realtime", "audio": {"input": pcm, "output": pcm}}}
            )
            updated = await application.until("session.updated")
            assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}

    run(script())


# ── who may call ───────────────────────────────────────────────────────────────────────


async def refused(server: Server, **how: object) -> Socket:
    async with calling(server, **how) as phone:  # type: ignore[arg-type]
        await asyncio.sleep(1)
        return phone.socket


@pytest.mark.parametrize(
    ("parameters", "headers", "closed"),
    [
        ({}, {}, (1008, "missing_api_key")),
        ({"key": "sk-wrong"}, {}, (1008, "invalid_api_key")),
        ({}, {"authorization": "Bearer sk-wrong"}, (1008, "invalid_api_key")),
        ({"key": "sk-right"}, {}, None),
        ({}, {"authorization": "Bearer sk-right"}, None),
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_call_wants_the_key_that_the_websocket_wants(
    provider: str, parameters: dict[str, str], headers: dict[str, str], closed: tuple[int, str] | None
) -> None:
    async def script() -> None:
        server = line("sk-right")
        async with calling(server, provider, parameters, headers) as phone:
            await asyncio.sleep(1)
            assert phone.socket.closed == closed
            assert server.sessions == (closed is None)

    run(script())


def test_an_ephemeral_key_brings_its_settings_and_those_of_the_call_count_more() -> None:
    async def script() -> None:
        server = line("sk-right")
        fields = {"type": "realtime", "instructions": "Of the key.", "audio": {"input": {"turn_detection": None}}}
        key, _ = server.access.issue("laptop", SessionUpdateFields.model_validate(fields), 600, time.time())
        headers = {"authorization": "Bearer sk-right"}
        async with (
            calling(server, parameters={"key": key, "instructions": "Of the call."}) as phone,
            connected(server, f"call_id={CALL}", headers=headers) as application,
        ):
            await phone.be_silent(0.1)
            session = (await application.until("session.created"))["session"]
            assert session["instructions"] == "Of the call."
            assert session["audio"]["input"]["turn_detection"] is None

    run(script())


TOKEN, URL = "12345", "wss://voice.example/v1/telephony/twilio"


@pytest.mark.parametrize(
    ("signature", "denied"),
    [
        (sign(URL, TOKEN), None),
        (sign(f"{URL}/", TOKEN), None),
        (sign(URL, "another"), 403),
        (sign(f"{URL}?dialect=plivo", TOKEN), 403),
        ("é", 403),
        (None, 403),
    ],
)
@pytest.mark.parametrize("query", ["", "dialect=plivo"])
def test_with_a_token_a_call_has_to_be_signed(signature: str | None, denied: int | None, query: str) -> None:
    async def script() -> None:
        server = scripted_server(SHORT, telephony={"twilio_token": TOKEN, "public_url": "wss://voice.example/"})
        headers = {"x-twilio-signature": signature} if signature else {}
        async with calling(server, headers=headers, query=query) as phone:
            await asyncio.sleep(1)
            assert phone.socket.denied == denied
            assert server.sessions == (denied is None)

    run(script())


def test_the_signature_is_that_of_twilios_own_library() -> None:
    """`RequestValidator("12345").compute_signature(URL, {})` of the package twilio 9.13.0."""
    assert sign(URL, TOKEN) == "5BsGau7JI8tQQQeMjshH4mURJSM="


# ── bad input ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("nonsense", "invalid_json"),
        ("[1, 2]", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        (b"\xff\xff", "invalid_json"),
        ('{"event": "media", "media": {"chunk": "1", "payload": "////"}}', "start_expected"),
        ('{"event": "stop"}', "start_expected"),
        ('{"event": "start"}', "invalid_value"),
        ('{"event": "start", "start": {"streamSid": "x", "callSid": "y", "customParameters": 3}}', "invalid_value"),
        (None, "start_expected"),
    ],
)
def test_a_call_that_does_not_begin_with_its_start_is_closed(
    message: str | bytes | None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server, path="/v1/telephony/twilio") as socket:
            if message is not None:
                socket.put(message)
            await asyncio.sleep(11)
            assert socket.closed == (1008, code)
            assert server.sessions == 0

    with caplog.at_level(logging.WARNING):
        run(script())
    assert [record.levelname for record in caplog.records] == ["WARNING"]


BAD = [
    "nonsense",
    '{"event": "media"}',
    '{"event": "media", "media": {"chunk": "x", "payload": "////"}}',
    '{"event": "media", "media": {"chunk": "1", "payload": "not base64!"}}',
    '{"event": "media", "media": {"chunk": "1", "payload": 7}}',
    '{"event": "dtmf", "dtmf": {"digit": "12"}}',
    '{"event": "mark", "mark": 3}',
    '{"event": "start", "start": {"streamSid": "x", "callSid": "y"}}',
]


def test_what_cannot_be_understood_is_told_to_who_has_joined_and_the_call_lives() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with calling(server) as phone, connected(server, f"call_id={CALL}") as application:
            await phone.be_silent(0.1)
            for text in BAD:
                phone.socket.put(text)
            phone.put("mark", mark={"name": "never sent"})
            phone.put("something new")
            await phone.be_silent(0.1)
            codes = [event["error"]["code"] for event in application.all("error")]
            assert codes == ["invalid_json", *["invalid_value"] * 6, "unexpected_start"]
            await phone.speak()
            await reply_begins(phone)

    run(script())


def test_a_line_that_sends_only_nonsense_is_closed() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with calling(server) as phone:
            for _ in range(200):
                phone.socket.put("nonsense")
            await asyncio.sleep(1)
            assert phone.socket.closed == (1008, "too many errors: hardly anything that the client sends is understood")
            assert server.sessions == 0

    run(script())


def test_frames_of_any_length_and_in_any_order_are_heard() -> None:
    async def script() -> None:
        async with calling(scripted_server(SHORT)) as phone:
            loud = b"\x80\x00" * 80 + b"\x80"  # 161 samples
            for pair in range(1, 60, 2):
                phone.media(loud, pair + 1)
                phone.media(loud, pair)
                await asyncio.sleep(0.04)
            phone._chunk = 60
            await reply_begins(phone)

    run(script())


def test_without_a_place_the_call_is_refused() -> None:
    async def script() -> None:
        server = scripted_server(SHORT, server={"max_sessions": 1})
        async with calling(server) as phone:
            await phone.be_silent(0.1)
            socket = await refused(server)
            assert socket.closed == (1013, "session_limit_reached")
            assert STREAM not in str(socket.events)

    run(script())
