"""What a stock client is told of speech that is detected: nothing that leaves it waiting."""

import asyncio

from tests.support.sockets import connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply

SHORT = ScriptedReply(transcript="what is it", text="It is short.")
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
