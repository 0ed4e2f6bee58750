"""Metrics, traces and log lines of turns: all from their records, none with a word of them."""

import asyncio
import json
import logging
import sys
from functools import partial
from io import StringIO

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.turn_record import TurnRecord
from vita_duplex.server.observe import logs
from vita_duplex.server.observe.metrics import Metrics, ServerState, SessionMeter, interruption, stages
from vita_duplex.server.observe.traces import NS
from vita_duplex.server.server import Server

LONG = ScriptedReply(transcript="xylophone", text=" ".join(["zebra"] * 80) + ".")
NOISE = ScriptedReply(p1=0.1, transcript="quarrel", text="never said")
SHORT = ScriptedReply(transcript="kangaroo", text="Wombats are short.")
WORDS = ("xylophone", "zebra", "quarrel", "never said", "kangaroo", "ombat")


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values in the order of the labels' names, ours only."""
    return {
        (sample.name.removeprefix("vita_duplex_"), *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name.startswith("vita_duplex_") and not sample.name.endswith("_created")
    }


def record(turn: int, **fields: object) -> TurnRecord:
    return TurnRecord(turn, (turn,), 0, "a", 0.0, **fields)  # type: ignore[arg-type]


def test_stages_are_the_spans_between_moments_and_never_negative() -> None:
    turn = record(1, speech_end=1.0, endpoint=1.5, verdict=1.4, floor=1.5, first_token=1.7, first_audio_sent=2.0)
    assert stages(turn) == pytest.approx({"endpoint": 0.5, "verdict": 0.0, "first_token": 0.2, "first_audio": 1.0})
    assert stages(record(1, speech_end=1.0)) == {}


def test_an_interruption_is_measured_from_the_users_first_sound() -> None:
    reply = record(1, holds=[(1.0, 1.5), (5.2, 6.0)], reason="turn_detected", finished=6.0)
    query = record(2, speech_start=5.0, endpoint=5.9, floor=6.0)
    assert interruption(reply, query) == pytest.approx({"hold": 0.2, "stop": 1.0})
    assert interruption(query, reply) == {}
    assert interruption(reply, record(3, speech_start=2.0, endpoint=3.0)) == {}, "another utterance"


def test_an_interruption_is_counted_once_whichever_record_comes_first() -> None:
    reply = record(1, status="cancelled", holds=[(5.2, 6.0)], cut_in_hold=True, reason="turn_detected", finished=6.0)
    query = record(2, status="completed", speech_start=5.0, endpoint=5.9, floor=6.0)
    for order in ((reply, query), (query, reply)):
        metrics = Metrics(ServerState)
        meter = SessionMeter(metrics)
        for turn in order:
            meter.turn(turn)
        found = samples(metrics)
        assert (found["stage_seconds_count", "hold"], found["stage_seconds_count", "stop"]) == (1, 1)
        assert found["holds_total", "cancelled"] == 1


async def talk(server: Server) -> None:
    """A long answer, noise into it, then a query into it that ends it."""
    async with connected(server) as client:
        await client.speak()
        await client.until("response.output_audio.delta")
        await client.speak()
        await client.until("vita.resume")
        await client.speak()
        await client.until("response.done", 2)
        await asyncio.sleep(1)


def test_what_happened_in_a_conversation_is_in_the_metrics() -> None:
    async def script() -> None:
        server = scripted_server(LONG, NOISE, SHORT)
        await talk(server)
        found = samples(server.metrics)
        assert found["turns_total", "turn_detected", "cancelled"] == 1
        assert found["turns_total", "", "completed"] == 1
        assert found["turns_total", "verdict", "rejected"] == 1
        assert (found["verdicts_total", "true", "<1>"], found["verdicts_total", "false", "<2>"]) == (2, 1)
        assert (found["holds_total", "resumed"], found["holds_total", "cancelled"]) == (1, 1)
        for stage, count in (("endpoint", 3), ("verdict", 3), ("first_audio", 2), ("hold", 2), ("stop", 1)):
            assert found["stage_seconds_count", stage] == count, stage
        # 96 ms until speech is noticed, 128 ms until it holds; the stop waits for the first glance.
        assert 0.1 < found["stage_seconds_sum", "hold"] / 2 < 0.2
        assert 0.4 < found["stage_seconds_sum", "stop"] < 0.6
        assert (found["sessions",], found["waiting",], found["instance_sessions", "a"]) == (0, 0, 0)

    run(script())


def test_verdicts_that_did_not_decide_are_counted() -> None:
    metrics = Metrics(ServerState)
    metrics.turn(record(1, status="completed"))
    metrics.turn(record(2, status="completed", abstained=True))
    assert samples(metrics)["abstained_total",] == 1


def test_failures_and_refusals_are_counted() -> None:
    async def script() -> None:
        server = scripted_server(
            LONG.model_copy(update={"fails_after": 20}), server={"max_sessions": 1, "max_waiting": 0}
        )
        async with connected(server) as client, connected(server) as late:
            await late.until("error")
            await client.speak()
            await client.until("response.done")
            found = samples(server.metrics)
            assert (found["sessions",], found["refusals_total", "session_limit_reached"]) == (1, 1)
            assert found["failures_total", "b"] == 1, "which went on in the place of a"
            assert found["turns_total", "instance_failed", "failed"] == 1

    run(script())


def test_a_turn_is_a_trace_with_its_stages_inside() -> None:
    async def script() -> None:
        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        server = scripted_server(LONG, NOISE, SHORT)
        server.tracer = provider.get_tracer("test")
        await talk(server)
        found = spans.get_finished_spans()
        turns = [span for span in found if span.name == "turn"]
        status = [span.attributes["vita_duplex.status"] for span in turns if span.attributes]
        assert status == ["rejected", "cancelled", "completed"]
        for turn in turns:
            inside = [span for span in found if span.parent and span.parent.span_id == turn.context.span_id]
            assert {"speech", "endpoint", "verdict"} <= {span.name for span in inside}
            for span in inside:
                assert turn.start_time is not None
                assert turn.end_time is not None
                assert span.start_time is not None
                assert span.end_time is not None
                assert turn.start_time <= span.start_time + NS / 1000
                assert span.end_time <= turn.end_time + NS / 1000
        assert [span.name for span in found].count("hold") == 2
        assert not any(word in span.to_json() for span in found for word in WORDS)

    run(script())


def test_no_word_of_a_user_is_in_logs_and_metrics_but_sessions_and_turns_are(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    written = StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    request.addfinalizer(partial(root.setLevel, root.level))  # not by monkeypatch: loggers remember what they may say
    logs.configure("json")
    root.setLevel(logging.DEBUG)

    async def script() -> tuple[str, str]:
        server = scripted_server(LONG, NOISE, SHORT)
        async with connected(server) as client:
            await client.speak()
            session = (await client.until("session.created"))["session"]["id"]
            await client.until("response.output_audio.delta")
            await client.speak()
            client.put({"type": "response.create", "event_id": "xylophone"})
            await client.until("vita.resume")
            await client.until("response.done")
        return session, server.metrics.text().decode()

    session, metrics = run(script())
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    turns = [line for line in lines if line["logger"] == "vita_duplex.server.observe.watch"]
    assert [(line["session"], line["turn"], line["status"]) for line in turns] == [
        (session, 2, "rejected"),
        (session, 1, "completed"),
    ]
    assert turns[1]["first_audio_s"] > 0.5
    assert not any(word in text for word in WORDS for text in (written.getvalue(), metrics))
