"""What the server sends: every event is one the official client knows, in the order of the reference."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import BaseModel as OpenAiModel
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter, ValidationError

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.events import Cause, Status
from vita_duplex.engine.messages import Verdict
from vita_duplex.engine.notices import (
    Notice,
    PartTrouble,
    Roles,
    TurnAudio,
    TurnEnded,
    TurnHeld,
    TurnRecorded,
    TurnResumed,
    TurnStarted,
    UserStarted,
    UserStopped,
    UtteranceAccepted,
    VerdictGiven,
    VoiceActivity,
)
from vita_duplex.engine.turn_record import TurnRecord
from vita_duplex.server.audio.formats import PCMU, AudioFormat, decode_pcm16, pcm
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.event_writer import Frame, item_fields
from vita_duplex.server.realtime.server_events import ServerEvents

RATE = 24_000
_server_event = TypeAdapter[Any](RealtimeServerEvent)


def open_events(*, vita: bool = False, voice_rate: int = RATE) -> ServerEvents:
    return ServerEvents("sess_1", voice_rate=voice_rate, vita_events=vita)


def unknown_fields(value: object, path: str = "") -> Iterator[str]:
    """Fields the official client has no name for."""
    match value:
        case OpenAiModel():
            yield from (f"{path}.{name}" for name in value.model_extra or {})
            for name in type(value).model_fields:
                yield from unknown_fields(getattr(value, name), f"{path}.{name}")
        case list():
            for one in value:
                yield from unknown_fields(one, path)


def check(frame: Frame) -> dict[str, Any]:
    """The event, once the official client's types have accepted it field by field; ours only have an id."""
    event = frame.content
    assert isinstance(event, dict)
    assert json.loads(json.dumps(event)) == json.loads(json.dumps(event, allow_nan=False))
    assert event["event_id"] == f"event_{frame.number}"
    if not event["type"].startswith("vita."):
        parsed = _server_event.validate_python(event, strict=True)
        assert parsed.type == event["type"]
        assert list(unknown_fields(parsed)) == []
    return event


def told(events: ServerEvents, *notices: Notice) -> list[dict[str, Any]]:
    return [check(event) for notice in notices for event in events.translate(notice)]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def only(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (event,) = [event for event in events if event["type"] == kind]
    return event


def audio(events: list[dict[str, Any]]) -> Samples:
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
    return decode_pcm16(b"".join(base64.b64decode(delta) for delta in deltas))


def tone(count: int) -> Samples:
    """Samples that 16 bits hold exactly."""
    return np.asarray(np.round(np.sin(np.arange(count) / 9) * 20_000) / 32_768, np.float32)


def no_sound() -> Samples:
    return np.zeros(0, np.float32)


TEXT, HEARD = "It is ten.", "It is"
REPLY: tuple[Notice, ...] = (
    TurnStarted(7),
    TurnAudio(7, tone(960), "It is"),
    TurnAudio(7, tone(960), None),
    TurnAudio(7, tone(480), "ten."),
)
BEGINNING = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
SPOKEN = [
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.delta",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
]
END = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


def test_the_check_refuses_what_the_official_client_does_not_know() -> None:
    with pytest.raises(ValidationError):
        check(Frame(1, {"type": "response.nope", "event_id": "event_1"}))
    wrong = {"type": "input_audio_buffer.speech_started", "item_id": 5, "audio_start_ms": 1}
    with pytest.raises(ValidationError):
        check(Frame(1, {"event_id": "event_1", **wrong}))
    with pytest.raises(AssertionError):
        check(Frame(1, {"type": "input_audio_buffer.cleared", "event_id": "event_1", "extra": 1}))


# ── the reply ──────────────────────────────────────────────────────────────────────────


def test_a_completed_reply_has_all_events_in_order() -> None:
    events = told(open_events(), *REPLY, TurnEnded(7, "completed", None, TEXT))
    assert types(events) == [*BEGINNING, *SPOKEN, *END]
    assert len({event["event_id"] for event in events}) == len(events)
    response = events[-1]["response"]
    assert (response["id"], response["status"], response["status_details"]) == (
        "resp_7",
        "completed",
        {"type": "completed"},
    )
    (item,) = response["output"]
    assert (item["id"], item["role"], item["status"]) == ("item_reply_7_1", "assistant", "completed")
    assert item["content"] == [{"type": "output_audio", "transcript": "It is ten."}]


def test_a_cancelled_reply_says_why() -> None:
    for cause in ("turn_detected", "client_cancelled"):
        events = told(open_events(), *REPLY, TurnEnded(7, "cancelled", cause, HEARD))
        assert types(events) == [*BEGINNING, *SPOKEN, *END]
        response = events[-1]["response"]
        assert (response["status"], response["status_details"]) == ("cancelled", {"type": "cancelled", "reason": cause})
        assert [item["status"] for item in response["output"]] == ["incomplete"]


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_of_a_cut_reply_deltas_and_ends_say_the_same_and_what_was_heard_is_said_apart(status: Status) -> None:
    events = told(open_events(vita=True), *REPLY, TurnEnded(7, status, None, HEARD))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio_transcript.delta"]
    ends = [
        only(events, "response.output_audio_transcript.done")["transcript"],
        only(events, "response.content_part.done")["part"]["transcript"],
        only(events, "response.output_item.done")["item"]["content"][0]["transcript"],
        only(events, "conversation.item.done")["item"]["content"][0]["transcript"],
        events[-1]["response"]["output"][0]["content"][0]["transcript"],
    ]
    assert ends == ["".join(deltas)] * 5 == [TEXT] * 5
    assert only(events, "vita.heard")["transcript"] == HEARD
    assert types(events).index("vita.heard") < types(events).index("response.output_audio.done")


def test_a_failed_reply_says_what_failed() -> None:
    response = told(open_events(), *REPLY, TurnEnded(7, "failed", "instance_failed", HEARD))[-1]["response"]
    assert response["status"] == "failed"
    assert response["status_details"] == {
        "type": "failed",
        "error": {"type": "server_error", "code": "instance_failed"},
    }
    assert [item["status"] for item in response["output"]] == ["incomplete"]


def test_a_reply_without_sound_has_a_beginning_and_an_end() -> None:
    assert types(told(open_events(), TurnStarted(1), TurnEnded(1, "cancelled", "turn_detected", HEARD))) == [
        *BEGINNING,
        *END,
    ]


def test_the_events_of_a_reply_carry_its_ids() -> None:
    events = told(open_events(), *REPLY, TurnEnded(7, "completed", None, TEXT))
    content = [event for event in events if "content_index" in event]
    assert len(content) == 9
    for event in content:
        place = event["response_id"], event["item_id"], event["output_index"], event["content_index"]
        assert place == ("resp_7", "item_reply_7_1", 0, 0)


def test_the_transcript_is_told_as_it_is_spoken() -> None:
    events = told(open_events(), *REPLY, TurnEnded(7, "completed", None, TEXT))
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio_transcript.delta"]
    assert "".join(deltas) == only(events, "response.output_audio_transcript.done")["transcript"] == "It is ten."


def test_a_content_part_is_of_type_audio() -> None:
    events = told(open_events(), *REPLY, TurnEnded(7, "completed", None, TEXT))
    assert only(events, "response.content_part.added")["part"] == {"type": "audio", "transcript": ""}
    assert only(events, "response.content_part.done")["part"] == {"type": "audio", "transcript": "It is ten."}


def test_the_samples_arrive_as_they_were() -> None:
    events = told(open_events(), *REPLY, TurnEnded(7, "completed", None, TEXT))
    assert audio(events).tobytes() == np.concatenate([tone(960), tone(960), tone(480)]).tobytes()


def test_a_piece_without_sound_is_text_only() -> None:
    events = told(open_events(), TurnStarted(1), TurnAudio(1, no_sound(), "Silent."), TurnAudio(1, no_sound(), None))
    assert types(events) == [*BEGINNING, "response.output_audio_transcript.delta"]


@pytest.mark.parametrize("ending", [("completed", None), ("failed", "instance_failed")])
@pytest.mark.parametrize(("voice_rate", "rate_out"), [(24_000, 16_000), (16_000, 24_000), (22_050, 24_000)])
def test_a_reply_that_was_heard_to_its_end_is_resampled_whole(
    voice_rate: int, rate_out: int, ending: tuple[Status, Cause | None]
) -> None:
    events = open_events(voice_rate=voice_rate)
    assert list(events.use(pcm(rate_out))) == []
    sent = told(
        events,
        TurnStarted(1),
        *(TurnAudio(1, tone(882), None) for _ in range(25)),
        TurnEnded(1, *ending, TEXT),
    )
    assert abs(len(audio(sent)) - 25 * 882 * rate_out / voice_rate) <= 1


def test_a_cancelled_reply_sends_not_one_more_sample() -> None:
    events = open_events()
    assert list(events.use(pcm(16_000))) == []  # the resampler keeps some back
    told(events, *REPLY)
    assert len(audio(told(events, TurnEnded(7, "cancelled", "turn_detected", HEARD)))) == 0


@pytest.mark.parametrize("wire", [pcm(16_000), PCMU], ids=["PCM", "G.711"])
def test_a_new_format_counts_at_once_also_within_a_reply(wire: AudioFormat) -> None:
    events = open_events(voice_rate=16_000)  # to 24 kHz: the resampler keeps something back
    first = told(events, TurnStarted(1), TurnAudio(1, tone(4800), None))
    first += [check(event) for event in events.use(wire)]
    rest = told(events, TurnAudio(1, tone(4800), None), TurnEnded(1, "completed", None, TEXT))
    assert len(audio(first)) == 7200, "all of it in the old format"
    data = b"".join(
        base64.b64decode(event["delta"]) for event in rest if event["type"] == "response.output_audio.delta"
    )
    assert len(wire.decode(data)) == 4800 * wire.rate // 16_000


def test_what_comes_late_of_an_ended_turn_is_not_told() -> None:
    events = open_events(vita=True)
    told(events, *REPLY, TurnEnded(7, "cancelled", "turn_detected", HEARD))
    late = (TurnAudio(7, tone(480), "late"), TurnEnded(7, "completed", None, TEXT))
    assert told(events, *late) == []
    told(events, TurnStarted(8))
    assert told(events, *late) == []
    assert events.responding
    assert types(told(events, TurnEnded(8, "completed", None, TEXT))) == END
    assert not events.responding


# ── the user ───────────────────────────────────────────────────────────────────────────


def test_an_accepted_utterance_becomes_an_item() -> None:
    events = told(
        open_events(), UserStarted(3, 1200), UserStopped(3, 2000), UtteranceAccepted(3, "what time is it", 0.8)
    )
    assert types(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
    ]
    assert (events[0]["audio_start_ms"], events[1]["audio_end_ms"]) == (1200, 2000)
    assert (
        {event["item_id"] for event in events if "item_id" in event} == {"item_user_3_1"} == {events[3]["item"]["id"]}
    )
    assert events[3]["item"]["content"] == [{"type": "input_audio", "transcript": None}], "words come once"
    assert (events[-1]["transcript"], events[-1]["usage"]) == ("what time is it", {"type": "duration", "seconds": 0.8})


def test_an_utterance_without_words_has_no_transcription() -> None:
    assert types(told(open_events(), UtteranceAccepted(3, None, 0.8))) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]


def typed(events: ServerEvents, number: int) -> list[dict[str, Any]]:
    content = [{"type": "input_text", "text": "Hello"}]

    def fields(item_id: str) -> dict[str, Any]:
        return item_fields(item_id, "user", "completed", content)

    return [check(event) for event in events.created(("user", number), fields, None, events.items.last)]


def test_a_typed_query_is_told_when_it_is_created_and_not_again() -> None:
    events = open_events()
    created = typed(events, 1)
    assert types(created) == ["conversation.item.added", "conversation.item.done"]
    assert created[0]["item"]["content"] == [{"type": "input_text", "text": "Hello"}]
    assert told(events, UtteranceAccepted(1, "Hello", None)) == []


def test_each_item_names_the_one_before_it() -> None:
    events = open_events()
    sent = [
        *typed(events, 1),
        *told(events, *REPLY, TurnEnded(7, "completed", None, TEXT), UtteranceAccepted(2, "and now", 0.5)),
        *told(events, TurnStarted(8)),
    ]
    for kind in ("conversation.item.added", "conversation.item.done"):
        chain = [(e["item"]["id"], e["previous_item_id"]) for e in sent if e["type"] == kind]
        assert chain[:3] == [
            ("item_user_1_1", None),
            ("item_reply_7_1", "item_user_1_1"),
            ("item_user_2_1", "item_reply_7_1"),
        ]
    assert only(sent, "input_audio_buffer.committed")["previous_item_id"] == "item_reply_7_1"


# ── ours ───────────────────────────────────────────────────────────────────────────────

JUDGEMENT = Verdict(0.9, 0.1, 0.0, ("what time", "is it"))
NOT_FOR_US = Verdict(0.1, 0.9, 0.0, ("secret words",))
OURS: tuple[Notice, ...] = (
    Roles("a", "b", 0),
    VoiceActivity(True),
    VoiceActivity(False),
    VerdictGiven((1, 2), JUDGEMENT, True, "verdict"),
    VerdictGiven((3,), NOT_FOR_US, False, "verdict"),
    VerdictGiven((4,), None, False, "deadline"),
    TurnHeld(7),
    TurnResumed(7),
    TurnRecorded(TurnRecord(7, (1, 2), 0, "a", 0.5, status="completed")),
)


def test_our_own_events_are_sent_only_to_who_asked_for_them() -> None:
    assert told(open_events(vita=False), *OURS) == []
    events = told(open_events(vita=True), *OURS)
    assert types(events) == [
        "vita.roles",
        "vita.speech",
        "vita.speech",
        "vita.verdict",
        "vita.verdict",
        "vita.verdict",
        "vita.hold",
        "vita.resume",
        "vita.timeline",
    ]
    events = [{name: value for name, value in event.items() if name not in ("type", "event_id")} for event in events]
    assert events[:3] == [{"generator": "a", "monitor": "b", "swaps": 0}, {"speaking": True}, {"speaking": False}]
    assert events[3] == {
        "utterances": [1, 2],
        "item_ids": ["item_user_1_1", "item_user_2_1"],
        "state": "<1>",
        "p1": 0.9,
        "p2": 0.1,
        "p3": 0.0,
        "accepted": True,
        "reason": "verdict",
        "transcript": "what time is it",
    }
    assert events[5] == {
        "utterances": [4],
        "item_ids": [],
        "state": None,
        "p1": None,
        "p2": None,
        "p3": None,
        "accepted": False,
        "reason": "deadline",
        "transcript": None,
    }
    assert events[6] == events[7] == {"response_id": "resp_7", "item_id": "item_reply_7_1"}
    assert (events[8]["record"]["response_id"], events[8]["record"]["utterances"]) == ("resp_7", (1, 2))


def test_the_same_replies_are_told_with_and_without_our_own_events() -> None:
    notices = [*REPLY, *OURS, TurnEnded(7, "completed", None, TEXT)]
    with_ours = [type_ for type_ in types(told(open_events(vita=True), *notices)) if not type_.startswith("vita.")]
    assert types(told(open_events(vita=False), *notices)) == with_ours


def test_the_words_of_a_rejected_utterance_are_nowhere() -> None:
    for vita in (False, True):
        for reason in ("verdict", "deadline", "failed"):
            record = TurnRecord(2, (3,), 1, "b", 0.5, status="rejected", reason=reason)
            rejected = (
                VoiceActivity(True),
                TurnHeld(7),
                VoiceActivity(False),
                VerdictGiven((3,), NOT_FOR_US, False, reason),  # type: ignore[arg-type]
                TurnResumed(7),
                TurnRecorded(record),
            )
            sent = told(open_events(vita=vita), *REPLY, *rejected, TurnEnded(7, "completed", None, TEXT))
            assert "secret" not in json.dumps(sent)
            assert "item_user" not in json.dumps(sent)


# ── errors and the session ─────────────────────────────────────────────────────────────


def test_a_clients_error_carries_its_event_id() -> None:
    error = ClientError("invalid_value", "audio: wrong", param="audio", event_id="e1")
    assert check(open_events().client_error(error))["error"] == {
        "type": "invalid_request_error",
        "code": "invalid_value",
        "message": "audio: wrong",
        "param": "audio",
        "event_id": "e1",
    }


def test_a_failed_part_is_a_servers_error_and_ends_no_reply() -> None:
    events = open_events()
    sent = told(events, *REPLY, PartTrouble("language model", "gone"))
    assert types(sent) == [*BEGINNING, *SPOKEN, "error"]
    assert (sent[-1]["error"]["type"], sent[-1]["error"]["code"]) == ("server_error", "language_model_failed")
    assert events.responding


def test_the_other_events_are_known_too() -> None:
    events = open_events()
    check(events.cleared())
    check(events.server_error("input_audio_overflow", "too much"))
    detection = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 500}
    pcm = {"type": "audio/pcm", "rate": 24_000}
    fields = {
        "type": "realtime",
        "model": "scripted",
        "instructions": "",
        "output_modalities": ["audio"],
        "tools": [],
        "audio": {"input": {"format": pcm, "turn_detection": detection}, "output": {"format": pcm}},
    }
    for kind in ("session.created", "session.updated"):
        event = events.session(kind, fields, {"barge_in": "hold"}).content
        assert _server_event.validate_python(event, strict=True).type == kind
        assert (event["session"]["id"], event["session"]["object"]) == ("sess_1", "realtime.session")


# ── any order ──────────────────────────────────────────────────────────────────────────

turns = st.integers(1, 4)
anything = st.one_of(
    st.builds(TurnStarted, turns),
    st.builds(
        TurnAudio, turns, st.sampled_from([tone(480), tone(7), no_sound()]), st.none() | st.sampled_from(["a", "b."])
    ),
    st.builds(TurnEnded, turns, st.just("completed"), st.none()),
    st.builds(TurnEnded, turns, st.just("cancelled"), st.sampled_from(["turn_detected", "client_cancelled"])),
    st.builds(UtteranceAccepted, turns, st.none() | st.just("words"), st.none() | st.just(1.0)),
    st.builds(VerdictGiven, st.just((1,)), st.just(NOT_FOR_US), st.just(False), st.just("verdict")),
    st.builds(PartTrouble, st.just("tts"), st.just("cannot say this")),
    st.sampled_from(OURS),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(anything, max_size=25), st.booleans(), st.sampled_from([16_000, 24_000]))
def test_whatever_happens_each_reply_begins_and_ends_once(script: list[Notice], vita: bool, rate_out: int) -> None:
    events = open_events(vita=vita)
    assert list(events.use(pcm(rate_out))) == []
    started: list[int] = []
    sent: list[dict[str, Any]] = []
    for notice in script:
        if isinstance(notice, TurnStarted) and (events.responding or notice.turn in started):
            continue  # the core begins each turn once, and only when the floor is free
        if isinstance(notice, TurnStarted):
            started.append(notice.turn)
        sent += told(events, notice)
    if events.responding:
        sent += told(events, TurnEnded(started[-1], "completed", None, TEXT))
    current = None
    for event in sent:
        if event["type"] == "response.created":
            current = event["response"]["id"]
        elif event["type"].startswith("response."):
            assert event.get("response_id", current) == current is not None
        if event["type"] == "response.done":
            current = None
    for kind in ("response.created", "response.done"):
        assert [e["response"]["id"] for e in sent if e["type"] == kind] == [f"resp_{turn}" for turn in started]
    assert len({event["event_id"] for event in sent}) == len(sent)
    assert "secret" not in json.dumps(sent)
