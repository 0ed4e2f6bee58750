"""What clients of other servers stumbled over: each has an answer here, and the session lives."""

import asyncio

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply

SHORT = ScriptedReply(transcript="what is it", text="It is short.")
LONG = ScriptedReply(transcript="tell me more", text=" ".join(f"word{n}" for n in range(60)) + ".")


def typed(text: str) -> Json:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    return {"type": "conversation.item.create", "item": item}


def codes(socket: Socket) -> list[str]:
    return [event["error"]["code"] for event in socket.all("error")]


def test_a_second_response_is_refused_while_one_is_under_way_and_nothing_new_was_said() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG), "") as socket:
            socket.put(typed("Go on."))
            socket.put({"type": "response.create"})
            await asyncio.sleep(0.2)
            socket.put({"type": "response.create"})
            done = await socket.until("response.done")
            assert done["response"]["status"] == "completed"
            assert codes(socket) == ["conversation_already_has_active_response"]

    run(script())


def test_a_truncation_beyond_the_end_keeps_all_that_was_sent() -> None:
    async def script() -> None:
        async with connected(scripted_server(SHORT), "") as socket:
            await socket.speak()
            await socket.until("response.done")
            reply = socket.item("reply", 1)
            socket.put({"type": "conversation.item.truncate", "item_id": reply, "audio_end_ms": 999_999})
            await socket.until("conversation.item.truncated")
            socket.put({"type": "conversation.item.retrieve", "item_id": reply})
            kept = (await socket.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
            assert (kept, codes(socket)) == (SHORT.text, [])

    run(script())


def test_a_hundred_responses_that_are_cancelled_leave_nothing_behind() -> None:
    async def script() -> None:
        server = scripted_server(LONG)
        async with connected(server, "") as socket:
            for number in range(1, 101):
                socket.put(typed(f"question {number}"))
                socket.put({"type": "response.create"})
                await socket.until("response.created", number)
                socket.put({"type": "response.cancel", "response_id": f"resp_{number}"})
            await socket.until("response.done", 100)
            await asyncio.sleep(1)
            assert server.parts
            assert sum(one.running for one in server.parts.pool.instances) == 0  # type: ignore[attr-defined]
            assert codes(socket) == []

    run(script())


def test_a_client_that_decides_by_itself_when_to_answer_and_to_interrupt() -> None:
    async def script() -> None:
        async with connected(scripted_server(LONG), "") as socket:
            detection = {"type": "server_vad", "create_response": False, "interrupt_response": False}
            audio = {"input": {"turn_detection": detection}}
            socket.put({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
            await socket.speak()
            await socket.until("input_audio_buffer.committed")
            assert socket.all("response.created") == []
            socket.put({"type": "response.create"})
            await socket.until("response.output_audio.delta", 10)
            await socket.speak()
            await socket.until("input_audio_buffer.committed", 2)
            assert socket.all("response.done") == [], "nobody interrupts it"
            socket.put({"type": "response.create"})
            done = (await socket.until("response.done"))["response"]
            assert (done["id"], done["status"]) == ("resp_1", "cancelled")
            done = (await socket.until("response.done", 2))["response"]
            assert (done["status"], codes(socket)) == ("completed", [])

    run(script())


def test_a_message_may_hold_text_and_sound() -> None:
    async def script() -> None:
        server = scripted_server(SHORT)
        async with connected(server, "") as socket:
            sound = {"type": "input_audio", "audio": "AAAA" * 20_000}
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Listen:"}, sound]}
            socket.put({"type": "conversation.item.create", "item": item})
            socket.put({"type": "response.create"})
            await socket.until("response.done")
            assert server.parts
            [query] = [query for one in server.parts.pool.instances for query in one.queries]  # type: ignore[attr-defined]
            assert [message.text for message in query.history] == ["Listen:"]
            assert [one.text for one in query.utterances] == [None]
            assert len(socket.all("conversation.item.added")) == 2

    run(script())
