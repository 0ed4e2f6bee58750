"""`truncation`: what becomes of a dialogue that the model cannot read whole."""

import pytest

from tests.support.sockets import Json, Socket, connected, scripted_server
from tests.support.virtual_time import run
from vita_duplex.engine.instances.scripted import ScriptedReply

READS = ScriptedReply(text="one two three four", reads=20, token_s=0.001)


async def talk(socket: Socket, turns: int) -> list[str]:
    """Type so many questions; return how their responses ended."""
    for number in range(1, turns + 1):
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a b c d"}]}
        socket.put({"type": "conversation.item.create", "item": item})
        socket.put({"type": "response.create", "response": {"output_modalities": ["text"]}})
        await socket.until("response.done", number)
    return [event["response"]["status"] for event in socket.all("response.done")]


@pytest.mark.parametrize(
    ("setting", "missing"),
    [
        (None, [2, 4, 6, 8, 10]),
        ("auto", [2, 4, 6, 8, 10]),
        ({"type": "retention_ratio", "retention_ratio": 0.2, "token_limits": {"post_instructions": 9}}, [5, 10]),
    ],
)
def test_the_client_is_told_of_each_cut(setting: Json | str | None, missing: list[int]) -> None:
    async def script() -> None:
        async with connected(scripted_server(READS)) as socket:
            if setting:
                socket.put({"type": "session.update", "session": {"truncation": setting}})
            assert await talk(socket, 8) == ["completed"] * 8
            assert [event["messages"] for event in socket.all("vita.truncated")] == missing
            assert socket.all("vita.truncated")[0]["response_id"]

    run(script())


def test_with_truncation_disabled_the_response_fails_and_the_session_lives() -> None:
    async def script() -> None:
        async with connected(scripted_server(READS), "") as socket:
            socket.put({"type": "session.update", "session": {"truncation": "disabled"}})
            assert (await socket.until("session.updated"))["session"]["truncation"] == "disabled"
            assert await talk(socket, 4) == ["completed", "completed", "completed", "failed"]
            assert "there is room for 20" in socket.all("error")[0]["error"]["message"]
            socket.put({"type": "session.update", "session": {"truncation": "auto"}})
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "still there?"}]}
            socket.put({"type": "conversation.item.create", "item": item})
            socket.put({"type": "response.create"})
            done = await socket.until("response.done", 5)
            assert done["response"]["status"] == "completed"

    run(script())
