"""Verdicts that a client corrects, over the wire, in the log, and in a calibration."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.cli.calibrate import CalibrateError, read_corrections
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.observe.session_logs import SessionLogs

NOISE = ScriptedReply(p1=0.3, transcript="secret words", text="It is short.")
QUERY = ScriptedReply(p1=0.9, transcript="a question", text=" ".join(f"word{n}" for n in range(40)) + ".")


def test_what_was_left_alone_is_answered_when_the_client_says_so() -> None:
    async def script() -> None:
        async with connected(scripted_server(NOISE)) as socket:
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            assert not verdict["accepted"]
            socket.put({"type": "vita.utterance.accept", "utterance": verdict["utterances"][0]})
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"
            kinds = socket.kinds()
            order = ["input_audio_buffer.committed", "conversation.item.added", "response.created"]
            assert [kind for kind in kinds if kind in order][:3] == order
            words = await socket.until("conversation.item.input_audio_transcription.completed")
            assert words["transcript"] == "secret words"
            socket.put({"type": "vita.utterance.accept", "utterance": verdict["utterances"][0]})
            assert (await socket.until("error"))["error"]["code"] == "utterance_gone"

    run(script())


def test_into_a_reply_it_takes_the_floor() -> None:
    async def script() -> None:
        async with connected(scripted_server(QUERY, NOISE)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await socket.speak(0.5)
            verdict = await socket.until("vita.verdict", 2)
            socket.put({"type": "vita.utterance.accept", "utterance": verdict["utterances"][0]})
            await socket.until("response.done", 2)
            statuses = [event["response"]["status"] for event in socket.all("response.done")]
            assert statuses == ["cancelled", "completed"]

    run(script())


def test_what_was_answered_by_mistake_is_forgotten_with_its_reply() -> None:
    async def script() -> None:
        async with connected(scripted_server(NOISE.model_copy(update={"p1": 0.9}))) as socket:
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            await socket.until("response.done")
            socket.put({"type": "vita.utterance.reject", "utterance": verdict["utterances"][0]})
            await socket.until("conversation.item.deleted", 2)
            deleted = [event["item_id"] for event in socket.all("conversation.item.deleted")]
            assert deleted == [verdict["item_ids"][0], socket.all("response.output_item.done")[0]["item"]["id"]]
            socket.put({"type": "conversation.item.retrieve", "item_id": deleted[0]})
            assert (await socket.until("error"))["error"]["code"] == "item_not_found"

    run(script())


@pytest.mark.parametrize("kind", ["accept", "reject"])
@pytest.mark.parametrize("utterance", [0, 99, -1, "1", None, 1.5])
def test_nonsense_is_told_and_the_session_lives(kind: str, utterance: object) -> None:
    async def script() -> None:
        async with connected(scripted_server(NOISE)) as socket:
            await socket.speak()
            await socket.until("vita.verdict")
            socket.put({"type": f"vita.utterance.{kind}", "utterance": utterance, "event_id": "e"})
            error = (await socket.until("error"))["error"]
            assert error["code"] in ("utterance_gone", "invalid_value")
            assert (error["param"], error["event_id"]) == ("utterance", "e")
            await socket.speak()
            await socket.until("vita.verdict", 2)

    run(script())


def test_corrections_are_labels_without_words_or_sound(tmp_path: Path) -> None:
    async def script() -> None:
        server = scripted_server(NOISE, QUERY)
        assert server.parts is not None
        server.parts = replace(server.parts, session_logs=(logs := SessionLogs(tmp_path)))
        async with connected(server) as socket:
            await socket.speak()
            verdict = await socket.until("vita.verdict")
            socket.put({"type": "vita.utterance.accept", "utterance": verdict["utterances"][0]})
            await socket.until("response.done")
            await socket.speak()
            verdict = await socket.until("vita.verdict", 3)
            socket.put({"type": "vita.utterance.reject", "utterance": verdict["utterances"][0]})
            await asyncio.sleep(1)
        logs.close()

    run(script())
    labels = read_corrections(tmp_path)
    assert [(one.clip.is_query, one.p1, one.clip.situation.reply) for one in labels] == [
        (True, 0.3, "idle"),
        (False, 0.9, "after"),
    ]
    [log] = tmp_path.glob("*.jsonl")
    assert "secret" not in log.read_text()
    log.write_text("nonsense\n")
    with pytest.raises(CalibrateError, match="no session log"):
        read_corrections(tmp_path)
