"""What clients of the beta, and others, call their settings: translated, or refused by name; never ignored."""

from typing import Any

import pytest

from tests.support.sockets import Json, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply

SHORT = ScriptedReply(transcript="what is it", text="It is short.")


def updated(**session: Any) -> tuple[Json, list[Json]]:
    """The session as it is after an update, and the errors."""

    async def script() -> tuple[Json, list[Json]]:
        async with connected(scripted_server(SHORT), "") as socket:
            socket.put({"type": "session.update", "session": session})
            shown = (await socket.until("session.updated"))["session"]
            return shown, [event["error"] for event in socket.all("error")]

    return run(script())


def test_settings_of_the_beta_have_their_effect() -> None:
    shown, errors = updated(
        modalities=["text"],
        instructions="Be brief.",
        voice="alloy",
        input_audio_format="g711_ulaw",
        output_audio_format="g711_alaw",
        input_audio_transcription={"model": "whisper-1", "language": "de"},
        turn_detection={"type": "server_vad", "silence_duration_ms": 700},
        max_response_output_tokens=50,
    )
    heard, said = shown["audio"]["input"], shown["audio"]["output"]
    assert (shown["output_modalities"], shown["instructions"], shown["max_output_tokens"]) == (
        ["text"],
        "Be brief.",
        50,
    )
    assert (heard["format"], said["format"]) == ({"type": "audio/pcmu"}, {"type": "audio/pcma"})
    assert heard["transcription"] == {"model": "whisper-1", "language": "de"}
    assert heard["turn_detection"]["silence_duration_ms"] == 700
    assert errors == []


def test_the_names_of_today_count_more_than_those_of_the_beta() -> None:
    shown, _ = updated(
        type="realtime",
        input_audio_format="g711_ulaw",
        audio={"input": {"format": {"type": "audio/pcma"}}, "output": {"format": "g711_ulaw"}},
    )
    assert shown["audio"]["input"]["format"] == {"type": "audio/pcma"}
    assert shown["audio"]["output"]["format"] == {"type": "audio/pcmu"}


@pytest.mark.parametrize("detection", [None, False, {"type": "none"}])
def test_turn_detection_is_off_in_any_of_its_spellings(detection: Any) -> None:
    assert updated(turn_detection=detection)[0]["audio"]["input"]["turn_detection"] is None


@pytest.mark.parametrize(("wanted", "counts"), [(0, 64), (63, 64), (64, 64), (300, 300)])
def test_a_silence_that_is_too_short_is_the_shortest_there_is(wanted: int, counts: int) -> None:
    shown, errors = updated(turn_detection={"silence_duration_ms": wanted})
    assert (shown["audio"]["input"]["turn_detection"]["silence_duration_ms"], errors) == (counts, [])


@pytest.mark.parametrize("language", ["auto", ""])
def test_a_language_that_is_to_be_found_is_none(language: str) -> None:
    transcription = {"model": "whisper-1", "language": language}
    shown, errors = updated(type="realtime", audio={"input": {"transcription": transcription}})
    assert (shown["audio"]["input"]["transcription"], errors) == ({"model": "whisper-1"}, [])


def test_long_instructions_are_taken() -> None:
    shown, errors = updated(instructions="x" * 25_000)
    assert (len(shown["instructions"]), errors) == (25_000, [])


def test_a_temperature_is_named_and_costs_nothing_else() -> None:
    shown, [error] = updated(instructions="Be brief.", temperature=0.6)
    assert (shown["instructions"], error["code"], error["param"]) == (
        "Be brief.", "unsupported_value", "session.temperature",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("response", "param"),
    [
        ({"conversation": "conv_other"}, "response.conversation"),
        ({"output_audio_format": "g711_ulaw"}, "response.audio.output.format"),
    ],
)
def test_what_a_response_cannot_have_is_refused_by_name(response: Json, param: str) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            socket.put({"type": "response.create", "response": response})
            assert (await socket.until("error"))["error"]["param"] == param

    run(script())


def test_a_response_of_the_beta_in_the_conversations_own_name() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            own = (await socket.until("session.created"))["session"]["id"].replace("sess", "conv")
            wanted = {"conversation": own, "modalities": ["text"], "metadata": {"n": 7}, "output_audio_format": "pcm16"}
            socket.put({"type": "response.create", "response": wanted})
            done = (await socket.until("response.done"))["response"]
            assert (done["output_modalities"], done["metadata"]) == (["text"], {"n": "7"})

    run(script())
