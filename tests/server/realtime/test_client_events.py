"""What a client sends: good events are understood, everything else is one kind of error with the event's id."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vita_duplex.server.audio.formats import decode_pcm16, encode_pcm16
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import (
    SUPPORTED,
    AudioAppend,
    AudioClear,
    AudioCommit,
    Heartbeat,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    OutputClear,
    OwnSettings,
    PlaybackAck,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    UserItem,
    UtteranceAccept,
    UtteranceReject,
    decode,
    decode_base64,
)

Refusal = tuple[str, str | None, str | None]


def refusal(frame: str) -> Refusal:
    """Code, parameter and event id of the error."""
    with pytest.raises(ClientError) as caught:
        decode(frame)
    error = caught.value
    assert error.message == str(error) != ""
    assert len(error.message) < 1000
    return error.code, error.param, error.event_id


def event(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "event_id": "e1", **fields})


def item(**changes: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": "Hello"}]
    return {"type": "message", "role": "user", "content": content, **changes}


def update(**fields: Any) -> str:
    return event("session.update", session={"type": "realtime", **fields})


# ── what is understood ─────────────────────────────────────────────────────────────────


def test_each_supported_event_is_understood() -> None:
    frames = {
        "session.update": (update(instructions="Be short."), SessionUpdate),
        "input_audio_buffer.append": (event("input_audio_buffer.append", audio="AAA="), AudioAppend),
        "input_audio_buffer.commit": (event("input_audio_buffer.commit"), AudioCommit),
        "input_audio_buffer.clear": (event("input_audio_buffer.clear"), AudioClear),
        "conversation.item.create": (event("conversation.item.create", item=item()), ItemCreate),
        "conversation.item.retrieve": (event("conversation.item.retrieve", item_id="a"), ItemRetrieve),
        "conversation.item.delete": (event("conversation.item.delete", item_id="a"), ItemDelete),
        "conversation.item.truncate": (
            event("conversation.item.truncate", item_id="item_reply_1", content_index=0, audio_end_ms=1500),
            ItemTruncate,
        ),
        "response.create": (event("response.create"), ResponseCreate),
        "response.cancel": (event("response.cancel", response_id="resp_1"), ResponseCancel),
        "output_audio_buffer.clear": (event("output_audio_buffer.clear"), OutputClear),
        "playback.ack": (
            event("playback.ack", response_id="resp_1", item_id="item_reply_1", played_ms=40, committed_ms=40),
            PlaybackAck,
        ),
        "session.heartbeat": (event("session.heartbeat"), Heartbeat),
        "vita.utterance.accept": (event("vita.utterance.accept", utterance=1), UtteranceAccept),
        "vita.utterance.reject": (event("vita.utterance.reject", utterance=1), UtteranceReject),
    }
    assert tuple(frames) == SUPPORTED
    for kind, (frame, model) in frames.items():
        decoded = decode(frame)
        assert (type(decoded), decoded.type, decoded.event_id) == (model, kind, "e1")


def test_an_event_needs_no_id() -> None:
    assert decode('{"type": "response.create"}') == ResponseCreate(type="response.create")


def test_the_parts_of_a_typed_query_are_its_lines() -> None:
    content = [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]
    decoded = decode(event("conversation.item.create", item=item(content=content)))
    assert isinstance(decoded, ItemCreate)
    assert isinstance(decoded.item, UserItem)
    assert decoded.item.text == "one\ntwo"


def test_fields_without_effect_are_passed_over() -> None:
    frame = update(
        model="gpt-realtime",
        tool_choice="auto",
        tools=[],
        audio={
            "input": {
                "format": {"type": "audio/pcm", "rate": 16000},
                "noise_reduction": None,
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 700, "create_response": True},
            },
            "output": {"voice": "marin", "speed": 1.0},
        },
    )
    decoded = decode(frame)
    assert isinstance(decoded, SessionUpdate)
    audio = decoded.session.audio
    assert audio is not None
    assert audio.input is not None
    assert audio.input.format is not None
    assert audio.input.turn_detection is not None
    assert (audio.input.format.rate, audio.input.turn_detection.silence_duration_ms) == (16_000, 700)
    assert decode('{"type": "response.cancel", "extra": "\\u0000"}') == ResponseCancel(type="response.cancel")


def test_what_a_session_may_want_of_its_own() -> None:
    decoded = decode(update(vita={"barge_in": "off", "verdict_threshold": 1, "echo_guard": False}))
    assert isinstance(decoded, SessionUpdate)
    assert decoded.session.vita == OwnSettings(barge_in="off", verdict_threshold=1.0, echo_guard=False)
    decoded = decode(update(vita={"barge_in": None}))
    assert isinstance(decoded, SessionUpdate)
    assert decoded.session.vita == OwnSettings()


# ── what is not ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "frame",
    [
        "",
        " ",
        "hello",
        "{",
        "\x00",
        '{"type": "response.cancel"',
        '{"type": "response.cancel"} {}',
        "{'type': 'response.cancel'}",
        '\ufeff{"type": "response.cancel"}',
        '{"type": "response.cancel", "event_id": "a\x00b"}',
        "[" * 100_000,
        "[" * 5000 + "]" * 5000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        '{"type": "response.cancel", "event_id": "\\ud800"}',
        '{"type": "response.cancel", "event_id": "\\udfff\\ud800"}',
        "\ud800",
        '{"type": "response.cancel", "x": ' + "9" * 5000 + "}",
    ],
    ids=lambda frame: repr(frame[:40]),
)
def test_what_is_not_json_is_refused(frame: str) -> None:
    assert refusal(frame) == ("invalid_json", None, None)


@pytest.mark.parametrize(
    "rest", ['"x": "\udfff"}', '"x": "\\ud800"}', '"x": ' + "[" * 300 + "]" * 300 + "}", '"x": "cut o']
)
def test_what_is_not_json_is_still_named_where_it_says_its_name(rest: str) -> None:
    assert refusal('{"type": "response.cancel", "event_id": "e1", ' + rest) == ("invalid_json", None, "e1")


@pytest.mark.parametrize("frame", ["null", "true", "1", "-1.5e300", '"response.cancel"', "[]", '[{"type": "x"}]', "{}"])
def test_what_is_no_event_is_refused(frame: str) -> None:
    assert refusal(frame) == ("unknown_event", "type", None)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "nope",
        "RESPONSE.CANCEL",
        "response.done",
        "x" * 1_000_000,
        "\x00",
        "é😀",
        5,
        None,
        [],
        {},
        ["response.cancel"],
    ],
)
def test_an_unknown_type_is_refused_with_the_events_id(kind: object) -> None:
    assert refusal(json.dumps({"type": kind, "event_id": "e1"})) == ("unknown_event", "type", "e1")


def test_a_missing_type_is_refused_with_the_events_id() -> None:
    assert refusal('{"event_id": "e1"}') == ("unknown_event", "type", "e1")


@pytest.mark.parametrize("wrong", [5, 1.5, True, [], {}, ["e1"]])
def test_an_id_that_is_no_text_is_refused(wrong: object) -> None:
    assert refusal(json.dumps({"type": "response.cancel", "event_id": wrong})) == ("invalid_value", "event_id", None)
    assert refusal(json.dumps({"type": "nope", "event_id": wrong})) == ("unknown_event", "type", None)


def test_a_huge_id_is_not_sent_back_whole() -> None:
    code, _, event_id = refusal(json.dumps({"type": "nope", "event_id": "e" * 1_000_000}))
    assert (code, event_id) == ("unknown_event", "e" * 200)


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        (event("input_audio_buffer.append"), "audio"),
        (event("input_audio_buffer.append", audio=5), "audio"),
        (event("input_audio_buffer.append", audio=None), "audio"),
        (event("response.cancel", response_id=7), "response_id"),
        (event("session.update"), "session"),
        (event("session.update", session=[]), "session"),
        (event("session.update", session={"type": "translation"}), "session.type"),
        (update(instructions=5), "session.instructions"),
        (update(instructions="x" * 200_001), "session.instructions"),
        (update(tools="none"), "session.tools"),
        (update(output_modalities=["text", "video"]), "session.output_modalities.1"),
        (update(max_output_tokens="all"), "session.max_output_tokens"),
        (update(audio="loud"), "session.audio"),
        (update(audio={"input": {"format": {"type": "audio/opus"}}}), "session.audio.input.format.type"),
        (update(audio={"input": {"format": {"type": "audio/pcm", "rate": "x"}}}), "session.audio.input.format.rate"),
        (
            update(audio={"input": {"turn_detection": {"type": "no_vad"}}}),
            "session.audio.input.turn_detection.type",
        ),
        (
            update(audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}),
            "session.audio.input.turn_detection.threshold",
        ),
        (
            update(audio={"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": -1}}}),
            "session.audio.input.turn_detection.silence_duration_ms",
        ),
        (event("conversation.item.create"), "item"),
        (event("conversation.item.create", item=item(role="developer")), "item.role"),
        (event("conversation.item.create", item=item(content=[])), "item.content"),
        (event("conversation.item.create", item=item(content=[{"type": "input_film"}])), "item.content.0.type"),
        (
            event("conversation.item.create", item=item(content=[{"type": "input_text", "text": ""}])),
            "item.content.0.text",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_the_events_id(frame: str, param: str) -> None:
    assert refusal(frame) == ("invalid_value", param, "e1")


def test_a_number_that_is_none_is_refused() -> None:
    detection = '{"type": "server_vad", "threshold": NaN}'
    frame = (
        '{"type": "session.update", "event_id": "e1", "session": {"type": "realtime", "audio": {"input": '
        f'{{"turn_detection": {detection}}}}}}}}}'
    )
    assert refusal(frame)[0] in ("invalid_json", "invalid_value")


# ── audio ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["A", "AA=A", "A,AAA", "é", "\x00", "😀", "A" * 100_001])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(ClientError) as caught:
        decode_base64(text, "e1")
    assert (caught.value.code, caught.value.param, caught.value.event_id) == ("invalid_base64", "audio", "e1")


def test_no_audio_is_no_samples() -> None:
    assert decode_base64("") == b""
    assert decode_pcm16(b"").shape == (0,)


def test_samples_are_little_endian() -> None:
    assert decode_pcm16(b"\x00\x40\x00\x80\x01\x00").tolist() == [0.5, -1.0, 1 / 32768]


def test_louder_than_full_scale_is_clipped() -> None:
    samples = np.array([2.0, 1.0, -1.0, -3.0, 0.0], np.float32)
    assert np.frombuffer(encode_pcm16(samples), "<i2").tolist() == [32767, 32767, -32768, -32768, 0]


def test_all_16_bit_values_survive_the_way_in_and_out() -> None:
    data = np.arange(-32768, 32768).astype("<i2").tobytes()
    assert encode_pcm16(decode_pcm16(data)) == data


# ── anything at all ────────────────────────────────────────────────────────────────────


def outcome(frame: str) -> ClientError | object:
    try:
        return decode(frame)
    except ClientError as error:
        return error


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(), max_size=80))
def test_random_text_is_never_another_exception(text: str) -> None:
    assert isinstance(outcome(text), ClientError)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([*SUPPORTED, "realtime"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "event_id", "session", "audio", "input", "item", "content", "format", "text"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(SUPPORTED) | values,
    st.text(max_size=8) | values,
    st.dictionaries(st.text(max_size=5), values, max_size=2),
    values,
)
def test_random_json_is_an_event_or_an_error_with_its_id(
    kind: Any, event_id: Any, more: dict[str, Any], value: Any
) -> None:
    fields = {"session": value, "item": value, "audio": value, **more, "type": kind, "event_id": event_id}
    result = outcome(json.dumps(fields))
    if isinstance(result, ClientError):
        known = isinstance(event_id, str) and result.code != "invalid_json"  # which no lone surrogate is
        assert result.event_id == (event_id if known else None)
        assert result.code in ("invalid_json", "unknown_event", "invalid_value")
    else:
        assert result.type == kind  # type: ignore[attr-defined]


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.text(max_size=20))
def test_random_bytes_are_samples_or_an_error(data: bytes, text: str) -> None:
    if len(data) % 2 == 0:
        assert encode_pcm16(decode_pcm16(data)) == data
    with contextlib.suppress(ClientError):
        decode_base64(text)


@pytest.mark.parametrize(
    ("vita", "param"),
    [
        ("hold", "session.vita"),
        ({"barge_in": "maybe"}, "session.vita.barge_in"),
        ({"barge_in": "x" * 100_000}, "session.vita.barge_in"),
        ({"barge_in": ["off"]}, "session.vita.barge_in"),
        ({"verdict_threshold": 1.01}, "session.vita.verdict_threshold"),
        ({"verdict_threshold": -0.1}, "session.vita.verdict_threshold"),
        ({"verdict_threshold": float("nan")}, "session.vita.verdict_threshold"),
        ({"verdict_threshold": float("inf")}, "session.vita.verdict_threshold"),
        ({"verdict_threshold": "0.5"}, "session.vita.verdict_threshold"),
        ({"verdict_threshold": True}, "session.vita.verdict_threshold"),
        ({"echo_guard": "yes"}, "session.vita.echo_guard"),
        ({"echo_guard": 1}, "session.vita.echo_guard"),
        ({"bargein": "off"}, "session.vita.bargein"),
    ],
)
def test_wrong_settings_of_our_own_are_refused_by_name(vita: Any, param: str) -> None:
    assert refusal(update(vita=vita)) == ("invalid_value", param, "e1")
