"""Two sounds said to a running server, the second into the answer to the first."""

import asyncio
import json
from collections.abc import Callable

from tests.support import sounds
from vita_duplex.client.connection import open_session
from vita_duplex.client.conversation import Conversation, Witness
from vita_duplex.client.messages import Record, ServerEvent, TextDelta
from vita_duplex.client.recording import OUTPUT_RATE, Recording, to_pcm
from vita_duplex.client.talk import FRAME_S, Microphone

LIMIT_S = 120
INTO_S = 0.5
"""After the first sound of the answer."""


class Listener(Witness):
    """One who also knows into which pieces the text of all answers came, each with its sound."""

    def __init__(self, answered: Callable[[Conversation], None]) -> None:
        """`answered` is called when the first text of the first answer is there."""
        super().__init__()
        self.pieces: list[str] = []
        self._answered = answered

    def receive(self, event: ServerEvent) -> None:
        super().receive(event)
        if isinstance(event, TextDelta):
            if not self.pieces:
                self._answered(self.conversation)
            self.pieces.append(event.delta)


def talk(
    url: str,
    first: sounds.Samples,
    second: sounds.Samples | None,
    enough: Callable[[Conversation], bool],
    answered: Callable[[Conversation], None] = lambda so_far: None,
) -> Listener:
    """The conversation until it is enough; then the answer that is being spoken, which would last for minutes, is
    cancelled. Errors: `TimeoutError`."""
    return asyncio.run(asyncio.wait_for(_talk(url, first, second, enough, Listener(answered)), LIMIT_S))


async def _talk(
    url: str,
    first: sounds.Samples,
    second: sounds.Samples | None,
    enough: Callable[[Conversation], bool],
    listener: Listener,
) -> Listener:
    conversation = listener.conversation
    into = None if second is None else Recording("second", to_pcm(second))
    microphone = Microphone(Recording("first", to_pcm(first)), into, INTO_S)
    async with open_session(url, listener) as session:
        start, frames, cancelled = session.now(), 0, False
        while not (
            cancelled
            and all(reply.status for reply in conversation.replies.values())
            and len(answers(conversation)) == len(conversation.replies)
        ):
            await session.send(microphone.frame(frames * FRAME_S, conversation.first_heard()))
            frames += 1
            await session.listen_until(start + frames * FRAME_S)
            if not cancelled and enough(conversation):
                for reply in list(conversation.replies)[-1:]:
                    await session._connection.send(json.dumps({"type": "response.cancel", "response_id": reply}))
                cancelled = True
    return listener


def answers(conversation: Conversation) -> list[Record]:
    """What the server says of its answers, in their order."""
    return sorted((one for one in conversation.records if one.is_reply), key=lambda one: one.turn or 0)


def spoken_s(conversation: Conversation, answer: int) -> float:
    """Seconds of sound that came of an answer."""
    replies = list(conversation.replies.values())
    return sum(map(len, replies[answer].pieces)) / OUTPUT_RATE if len(replies) > answer else 0.0
