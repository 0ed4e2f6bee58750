"""What a stock client is told of speech that is detected: nothing that leaves it waiting."""

import asyncio
import base64

import numpy as np
import pytest

from tests.support.sockets import Json, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.server.audio.formats import pcm
from vita_duplex.vad.listener import STARVED_S

SHORT = ScriptedReply(transcript="what is it", text="It is short.")
LONG = ScriptedReply(transcript="tell me more", text=" ".join(f"word{n}" for n in range(60)) + ".")
NOISE = ScriptedReply(p1=0.1, transcript="secret words", text="secret answer")


def test_speech_that_was_not_meant_for_the_model_is_no_event_for_a_stock_client() -> None:
    async def script() -> None:
        async with connected(scripted_server(NOISE, SHORT), "") as socket:
            await socket.speak()
            await asyncio.sleep(2)
            assert socket.kinds() == ["session.created"]
            await socket.speak()
            await socket.until("response.done")
            assert socket.kinds()[1:5] == [
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
            ]

    run(script())


def test_a_cancel_that_echoes_the_start_of_speech_leaves_its_answer_alone() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            await socket.speak()
            await socket.until("input_audio_buffer.speech_started")
            socket.put({"type": "response.cancel"})
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"
            assert socket.all("error") == []

    run(script())


# ── audio that stops coming ────────────────────────────────────────────────────────────


def loud(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return (0.3 * np.sin(np.arange(int(seconds * 24_000)) / 20)).astype(np.float32)


def whole(seconds: float) -> Json:
    """Loud sound in one append."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm(24_000).encode(loud(seconds))).decode()}


def test_speech_that_no_silence_follows_is_over_after_a_second_and_answered() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            await socket.say(loud(1.5))
            silent = asyncio.get_running_loop().time()
            await socket.until("response.created")
            assert asyncio.get_running_loop().time() - silent == pytest.approx(STARVED_S, abs=0.3)
            await socket.until("response.done")
            await socket.speak()
            await socket.until("response.done", 2)

    run(script())


def test_a_reply_held_for_speech_that_breaks_off_goes_on_when_it_was_not_meant() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG, NOISE)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await socket.say(loud(1))
            await socket.until("vita.hold")
            await socket.until("vita.resume", limit_s=STARVED_S + 0.5)
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"

    run(script())


# ── what the client says of its speech ─────────────────────────────────────────────────


@pytest.mark.parametrize("at_once", [True, False])
def test_a_commit_ends_the_utterance_at_once(at_once: bool) -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            if at_once:
                socket.put(whole(1.5))
            else:
                await socket.say(loud(1.5))
            told = asyncio.get_running_loop().time()
            socket.put({"type": "input_audio_buffer.commit"})
            await socket.until("input_audio_buffer.committed")
            assert asyncio.get_running_loop().time() - told < 0.3
            await socket.until("response.done")
            socket.put({"type": "input_audio_buffer.commit", "event_id": "nothing"})
            error = (await socket.until("error"))["error"]
            assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "nothing")

    run(script())


def test_a_commit_of_what_was_not_meant_for_the_model_has_an_answer() -> None:
    async def script() -> None:
        async with connected(scripted_server(NOISE), "") as socket:
            await socket.say(loud(1))
            socket.put({"type": "input_audio_buffer.commit", "event_id": "mine"})
            error = (await socket.until("error"))["error"]
            assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_rejected", "mine")
            await socket.speak()
            await asyncio.sleep(2)
            assert len(socket.all("error")) == 1

    run(script())


def test_a_commit_without_answers_to_speech_makes_an_item_at_once() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            detection = {"type": "server_vad", "create_response": False}
            fields = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
            socket.put({"type": "session.update", "session": fields})
            await socket.say(loud(1))
            socket.put({"type": "input_audio_buffer.commit"})
            await socket.until("input_audio_buffer.committed", limit_s=0.3)
            assert socket.all("error") == []

    run(script())


@pytest.mark.parametrize("answers", [True, False])
def test_cleared_speech_was_never_said(answers: bool) -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server, "") as socket:
            detection = {"type": "server_vad", "create_response": answers}
            fields = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
            socket.put({"type": "session.update", "session": fields})
            await socket.say(loud(1))
            socket.put({"type": "input_audio_buffer.clear"})
            await socket.until("input_audio_buffer.cleared")
            await socket.say(np.zeros(48_000, np.float32))
            assert socket.all("input_audio_buffer.committed") == []
            assert len(socket.all("input_audio_buffer.speech_started")) == (not answers)
            assert len(socket.all("input_audio_buffer.speech_stopped")) == (not answers)
            await socket.speak()
            await socket.until("input_audio_buffer.committed")
            assert server.parts
            heard = [query.utterances for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]
            assert all(len(one.samples) < 2 * INPUT_RATE for [one] in heard)

    run(script())


def test_a_reply_goes_on_when_the_speech_into_it_is_cleared() -> None:
    async def script() -> None:
        unsure = SHORT.model_copy(update={"p1": 0.55})  # no glance decides about it
        async with connected(scripted_server(LONG, unsure)) as socket:
            await socket.speak()
            await socket.until("response.output_audio.delta")
            await socket.say(loud(0.8))
            await socket.until("vita.hold")
            socket.put({"type": "input_audio_buffer.clear"})
            await socket.until("vita.resume", limit_s=0.1)
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"

    run(script())
