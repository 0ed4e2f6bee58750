"""What is typed into a reply by clients that ask for the answer only when they were told `response.done`."""

import asyncio

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.messages import AssistantMessage
from vita_duplex.server.realtime.responses import ASK_S

LONG = ScriptedReply(transcript="tell me more", text=" ".join(f"word{n} and on." for n in range(30)), token_s=0.001)


def typed(text: str, **more: str) -> Json:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return {"type": "conversation.item.create", "item": item, **more}


async def speaking(socket: Socket) -> None:
    await socket.speak()
    await socket.until("response.output_audio.delta", 20)


def now() -> float:
    return asyncio.get_running_loop().time()


def deltas(socket: Socket, response: str) -> str:
    told = [one for one in socket.all("response.output_audio_transcript.delta") if one["response_id"] == response]
    return "".join(one["delta"] for one in told)


def test_it_is_answered_at_once_and_the_dialogue_keeps_what_was_heard() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, "") as socket:
            await speaking(socket)
            began = now()
            socket.put(typed("Stop that."))
            done = (await socket.until("response.done"))["response"]
            assert now() - began < ASK_S + 0.2
            text = done["output"][0]["content"][0]["transcript"]
            assert (done["status"], text) == ("completed", LONG.text)
            assert deltas(socket, "resp_1") == text
            socket.put({"type": "response.create"})
            await socket.until("response.created", 2)
            frames = len(socket.audio("resp_1"))
            await socket.until("response.done", 2)
            assert len(socket.audio("resp_1")) == frames, "the old reply is not heard beside the new one"
            assert [one["response"]["id"] for one in socket.all("response.done")] == ["resp_1", "resp_2"]
            assert server.parts
            queries = [query for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]
            answer = next(query.history[-1] for query in queries if query.history)
            assert isinstance(answer, AssistantMessage)
            assert answer.cut
            assert 0 < len(answer.text) < len(LONG.text) / 2

    run(script())


def test_a_client_that_asks_for_nothing_hears_the_reply_to_its_end() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG), "") as alone, connected(scripted_server(LONG), "") as socket:
            for one in (alone, socket):
                await speaking(one)
            socket.put(typed("By the way."))
            await socket.until("response.done")
            await alone.until("response.done")
            await asyncio.sleep(10)
            assert len(socket.audio("resp_1")) == len(alone.audio("resp_1"))
            assert len(socket.all("response.done")) == 1
            assert deltas(socket, "resp_1") == LONG.text, "no text comes twice"
            socket.put({"type": "response.create"})
            await socket.until("response.done", 2)

    run(script())


def test_what_is_left_of_a_reply_can_be_cancelled() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG), "") as socket:
            await speaking(socket)
            socket.put(typed("Enough."))
            await socket.until("response.done")
            socket.put({"type": "response.cancel", "response_id": "resp_1"})
            await asyncio.sleep(0.1)
            frames = len(socket.audio("resp_1"))
            await asyncio.sleep(5)
            assert len(socket.audio("resp_1")) == frames
            assert len(socket.all("response.done")) == 1
            assert socket.all("error") == []

    run(script())


def test_who_asks_at_once_or_edits_the_dialogue_is_told_of_no_end_before_the_end() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG), "") as socket:
            await speaking(socket)
            socket.put(typed("From before.", previous_item_id="root"))
            await asyncio.sleep(1)
            assert socket.all("response.done") == []
            socket.put(typed("Stop that."))
            socket.put({"type": "response.create"})
            done = (await socket.until("response.done"))["response"]
            assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}

    run(script())


def test_a_reply_that_is_still_being_generated_is_told_to_be_over_when_it_is_there() -> None:
    async def script() -> None:
        slow = LONG.model_copy(update={"token_s": 0.05})
        async with connected(scripted_server(slow), "") as socket:
            await speaking(socket)
            socket.put(typed("And then?"))
            done = (await socket.until("response.done"))["response"]
            assert done["output"][0]["content"][0]["transcript"] == deltas(socket, "resp_1") == LONG.text

    run(script())
