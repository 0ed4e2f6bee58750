"""`/v1/verdict` as a WebSocket: an application tells of its replies and is told what to do with them."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.support.seed import SEED
from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedInstance, ScriptedReply
from vita_duplex.engine.messages import AssistantMessage, Query, Situation, Usage, UserMessage, Verdict
from vita_duplex.engine.pool import Pool
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.server import Server

QUERY = ScriptedReply(p1=0.95, transcript="stop", glances=(0.6,))
NOISE = ScriptedReply(p1=0.05, transcript="secret words")


@asynccontextmanager
async def judging(server: Server, query: str = "", **more: Any) -> AsyncIterator[Socket]:
    async with connected(server, query, path="/v1/verdict", **more) as socket:
        yield socket


def told(socket: Socket) -> list[str]:
    """What an application acts upon, in order."""
    acted = ("vita.hold", "vita.resume", "vita.stop", "vita.verdict", "error")
    return [kind for kind in socket.kinds() if kind in acted]


def started(reply_id: str = "r1", text: str | None = "One two. Three four five.") -> Json:
    return {"type": "reply.started", "reply_id": reply_id, "text": text}


def asked(server: Server) -> ScriptedInstance:
    """The instance that was asked last."""
    assert server.parts is not None
    [found] = server.parts.pool.instances
    assert isinstance(found, ScriptedInstance)
    return found


def test_what_is_not_meant_holds_the_reply_and_lets_it_go_on() -> None:
    async def script() -> None:
        async with judging(scripted_server(NOISE)) as socket:
            socket.put(started())
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            await socket.until("vita.resume")
            assert (verdict["accepted"], verdict["transcript"]) == (False, None)
            assert socket.all("vita.hold")[0]["reply_id"] == socket.all("vita.resume")[0]["reply_id"] == "r1"
            assert told(socket).count("vita.stop") == 0

    run(script())


@pytest.mark.parametrize(
    ("glance", "order"),
    [(0.6, ["vita.hold", "vita.verdict", "vita.stop"]), (0.95, ["vita.hold", "vita.stop", "vita.verdict"])],
)
def test_what_is_meant_stops_the_reply_and_nothing_is_answered(glance: float, order: list[str]) -> None:
    """A glance that is sure stops the reply before the speech is over."""

    async def script() -> None:
        server = scripted_server(QUERY.model_copy(update={"glances": (glance,)}), instances=1)
        async with judging(server) as socket:
            socket.put(started())
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            assert (verdict["accepted"], verdict["transcript"], verdict["state"]) == (True, "stop", "<1>")
            assert (await socket.until("vita.stop"))["reply_id"] == "r1"
            await socket.say(np.zeros(24_000, np.float32))
            assert told(socket) == order
            assert asked(server).running == 0
            assert not [kind for kind in socket.kinds() if kind.startswith("response.")]

    run(script())


def test_speech_is_judged_in_its_situation_and_dialogue() -> None:
    async def script() -> None:
        server = scripted_server(QUERY, instances=1)
        async with judging(server) as socket:
            await socket.speak()
            await socket.until("vita.verdict")
            assert asked(server).queries[-1].situation == Situation()
            socket.put(started(text="Hello."))
            socket.put({"type": "reply.text", "delta": " What is your name?"})
            await socket.speak()
            await socket.until("vita.verdict", 2)
            query = asked(server).queries[-1]
            assert query.situation == Situation("speaking", 0.0, "What is your name?")
            assert query.history == (UserMessage("stop"), AssistantMessage("Hello. What is your name?"))
            socket.put({"type": "reply.ended"})  # it crossed our event
            socket.put(started(text="Goodbye."))
            socket.put({"type": "reply.ended", "reply_id": "r1"})
            await socket.speak()
            await socket.until("vita.verdict", 3)
            last = asked(server).queries[-1].situation
            assert (last.reply, last.last_words) == ("after", "Goodbye.")
            assert 0 < last.seconds < 0.5
            assert told(socket) == ["vita.verdict", "vita.hold", "vita.verdict", "vita.stop", "vita.verdict"]

    run(script())


def test_a_stopped_reply_leaves_its_last_words_to_what_follows() -> None:
    async def script() -> None:
        server = scripted_server(QUERY, instances=1)
        async with judging(server) as socket:
            socket.put(started(text="Shall I go on?"))
            await socket.speak()
            await socket.until("vita.stop")
            await socket.speak()
            await socket.until("vita.verdict", 2)
            assert asked(server).queries[-1].situation.last_words == "Shall I go on?"

    run(script())


def test_a_reply_that_ends_while_it_is_held_is_over() -> None:
    async def script() -> None:
        async with judging(scripted_server(NOISE)) as socket:
            socket.put(started())
            speaking = asyncio.create_task(socket.speak())
            await socket.until("vita.hold")
            socket.put({"type": "reply.ended"})
            await speaking
            await socket.until("vita.verdict")
            await socket.speak()
            await socket.until("vita.verdict", 2)
            assert told(socket).count("vita.hold") == 1, "nothing is being said any more"
            assert "error" not in told(socket)

    run(script())


LIES = [
    ([{"type": "reply.ended"}], "no_reply"),
    ([{"type": "reply.text", "delta": "words"}], "no_reply"),
    ([started(), {"type": "reply.ended", "reply_id": "other"}], "no_reply"),
    ([started(text="x" * 20_000), {"type": "reply.text", "delta": "x"}], "reply_too_long"),
    ([started(text="x" * 100_000)], "invalid_value"),
    ([{"type": "reply.started", "text": 7}], "invalid_value"),
    ([{"type": "reply.started", "reply_id": "x" * 600}], "invalid_value"),
    ([{"type": "reply.text", "delta": ""}], "invalid_value"),
    ([{"type": "response.create"}], "unknown_event"),
    ([{"type": "input_audio_buffer.commit"}], "unknown_event"),
    ([{"type": "input_audio_buffer.append", "audio": "!"}], "invalid_base64"),
    (["nonsense"], "invalid_json"),
]


@pytest.mark.parametrize(("lie", "code"), LIES)
def test_wrong_order_and_nonsense_are_told_and_the_session_lives(lie: list[Json | str], code: str) -> None:
    async def script() -> None:
        async with judging(scripted_server(QUERY)) as socket:
            for event in lie:
                socket.put(event)
            assert (await socket.until("error"))["error"]["code"] == code
            await socket.speak()
            assert (await socket.until("vita.verdict"))["accepted"]
            assert len(socket.all("error")) == 1

    run(script())


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"audio": {"input": {"turn_detection": None}}}, "session.audio.input.turn_detection"),
        (
            {"audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}},
            "session.audio.input.turn_detection",
        ),
        ({"vita": {"echo_guard": True}}, "session.vita.echo_guard"),
    ],
)
def test_settings_without_which_nothing_is_judged_cannot_be_changed(wanted: Json, param: str) -> None:
    async def script() -> None:
        async with judging(scripted_server(QUERY)) as socket:
            socket.put({"type": "session.update", "session": {"type": "realtime", **wanted}})
            error = (await socket.until("error"))["error"]
            assert (error["code"], error["param"]) == ("unsupported_value", param)

    run(script())


def test_settings_of_the_microphone_and_of_the_verdict_can_be_changed() -> None:
    async def script() -> None:
        server = scripted_server(ScriptedReply(p1=0.6), instances=1)
        async with judging(server) as socket:
            sound = {"format": {"type": "audio/pcm", "rate": 16_000}, "transcription": {"language": "zh"}}
            session = {"type": "realtime", "audio": {"input": sound}, "vita": {"verdict_threshold": 0.7}}
            socket.put({"type": "session.update", "session": {**session, "output_modalities": ["audio"]}})
            assert (await socket.until("session.updated"))["session"]["vita"]["verdict_threshold"] == 0.7
            await socket.speak(rate=16_000, binary=True)
            assert (await socket.until("vita.verdict"))["accepted"] is False
            query = asked(server).queries[-1]
            assert (query.language, query.max_tokens) == ("zh", 0)
            samples = query.utterances[0].samples
            assert samples is not None
            assert len(samples) == pytest.approx(1.3 * 16_000, rel=0.3)

    run(script())


def test_an_application_that_tells_nothing_is_judged_as_in_silence() -> None:
    async def script() -> None:
        async with judging(scripted_server(QUERY)) as socket:
            await socket.speak()
            await socket.until("vita.verdict")
            await socket.speak()
            await socket.until("vita.verdict", 2)
            assert told(socket) == ["vita.verdict"] * 2

    run(script())


def test_a_flood_of_replies_leaves_one() -> None:
    async def script() -> None:
        server = scripted_server(QUERY, instances=1)
        async with judging(server) as socket:
            for number in range(2000):
                socket.put(started(f"r{number}"))
            await socket.speak()
            assert (await socket.until("vita.stop"))["reply_id"] == "r1999"
            assert len(socket.all("vita.stop")) == 1

    run(script())


def test_an_engine_that_fails_costs_one_verdict() -> None:
    async def script() -> None:
        async with judging(scripted_server(ScriptedReply(fails_after=0), QUERY, instances=1)) as socket:
            socket.put(started(text=None))
            socket.put({"type": "reply.ended"})
            socket.put(started())  # the first utterance is the third that the session numbers
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            assert (verdict["accepted"], verdict["reason"]) == (False, "failed")
            await socket.until("vita.resume")
            assert "a_failed" in [event["error"]["code"] for event in socket.all("error")]
            await socket.speak()
            assert (await socket.until("vita.verdict", 2))["accepted"]

    run(script())


def test_keys_and_places_are_asked_for_as_of_any_session() -> None:
    key = new_key()

    async def script() -> None:
        server = scripted_server(QUERY, access={"keys": {"laptop": hashed(key)}}, server={"max_sessions": 1})
        async with judging(server) as socket:
            await socket.some()
            assert socket.denied == 401
        headers = {"authorization": f"Bearer {key}"}
        async with judging(server, headers=headers) as first, judging(server, headers=headers) as second:
            await first.until("session.created")
            assert (await second.until("error"))["error"]["code"] == "session_limit_reached"
            server.drain.begin(asyncio.get_running_loop().time())
            await first.until("vita.draining")
        assert server.sessions == 0

    run(script())


def test_a_broken_connection_goes_on_where_it_was() -> None:
    async def script() -> None:
        server = scripted_server(QUERY)
        async with judging(server, "resume=true") as socket:
            socket.put(started())
            token = (await socket.until("session.created"))["resume_token"]
            socket.leave()
            async with judging(server, f"resume=true&resume_token={token}") as back:
                await back.until("session.resumed")
                await back.speak()
                assert (await back.until("vita.stop"))["reply_id"] == "r1"

    run(script())


def test_turns_and_verdicts_are_in_the_metrics() -> None:
    async def script() -> None:
        server = scripted_server(NOISE)
        async with judging(server) as socket:
            socket.put(started())
            await socket.speak()
            await socket.until("vita.resume")
        text = server.metrics.text().decode()
        assert 'vita_duplex_verdicts_total{accepted="false",state="<2>"} 1.0' in text
        assert 'vita_duplex_holds_total{outcome="resumed"}' in text

    run(script())


def test_whatever_an_application_does_it_is_told_consistently() -> None:
    """Random speech and replies: a hold is followed by one resume or stop of the same reply, and nothing is left."""
    chance = random.Random(SEED)

    async def script() -> None:
        server = scripted_server(*(ScriptedReply(p1=chance.choice((0.05, 0.95))) for _ in range(7)))
        async with judging(server) as socket:
            for number in range(60):
                match chance.randrange(6):
                    case 0 | 1:
                        socket.put(started(f"r{number}"))
                    case 2:
                        socket.put({"type": "reply.ended"})
                    case 3:
                        socket.put({"type": "reply.text", "delta": "more words. "})
                    case _:
                        await socket.speak(chance.uniform(0.05, 1.5))
                await asyncio.sleep(chance.choice((0, 0.01, 0.3)))
            await socket.speak()
            held: str | None = None
            for event in socket.events:
                match event["type"]:
                    case "vita.hold":
                        assert held is None or held != event["reply_id"]
                        held = event["reply_id"]
                    case "vita.resume" | "vita.stop" if held is not None:
                        assert event["reply_id"] == held
                        held = None
                    case "vita.resume":
                        raise AssertionError("a resume without a hold")
                    case "error":
                        assert event["error"]["code"] == "no_reply"

    run(script())


class Talkative(ScriptedInstance):
    """Goes on behind its verdict, however short an answer may be."""

    went_on = False

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Usage]:
        yield Verdict(1.0, 0.0, 0.0, ("stop",))
        self.went_on = True
        yield "never said"


def test_an_engine_is_not_asked_to_go_on_behind_its_verdict() -> None:
    async def script() -> None:
        server = scripted_server()
        assert server.parts is not None
        engine = Talkative("a")
        server.parts = replace(server.parts, pools={"vita": Pool([engine])})
        async with judging(server) as socket:
            await socket.speak()
            await socket.until("vita.verdict")
            await socket.say(np.zeros(24_000, np.float32))
        assert not engine.went_on

    run(script())
