"""An instance without a model: it answers by script. Tests and `configs/scripted.yaml` run on it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress

from pydantic import Field

from vita_duplex.engine.messages import Chat, ChatAudio, Finished, Message, Query, Usage, UserMessage, Verdict
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.section import Section


class ScriptedReply(Section):
    """What the instance does with an utterance."""

    p1: float = Field(1.0, ge=0, le=1)
    """Probability of `<1>`; the rest is `<2>`."""
    glances: tuple[float, ...] = ()
    """The same for glances at the utterance while it is being spoken, one after the other; then the last one for all
    others. Without any it is `p1`."""
    transcript: str | None = "a question"
    """Words that are heard. None has no words for it, as VITA."""
    text: str = "This is a scripted answer, spoken by a voice that hums. It has two sentences."
    """The answer."""
    verdict_s: float = Field(0.05, ge=0)
    """Seconds from the request to the verdict."""
    token_s: float = Field(0.02, ge=0)
    """Seconds before each word."""
    fails_after: int | None = None
    """Words after which the instance fails; 0 fails before the verdict."""
    hangs_after: int | None = None
    """Words after which the instance hangs; 0 gives no verdict."""


class ScriptedInstance:
    """Answers a session's utterance n with the n-th reply, and goes round again; without one with the first reply."""

    sees = True
    follows_schemas = True  # as far as the script does

    def __init__(self, name: str, replies: tuple[ScriptedReply, ...] = (ScriptedReply(),)) -> None:
        self.name = name
        self.healthy = True
        self._died = asyncio.Event()
        self.running = 0
        """Requests under way."""
        self.queries: deque[Query] = deque(maxlen=8)
        """The latest."""
        self._replies = replies
        self._glanced = (0, 0)  # the latest utterance that was glanced at, and how often

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Usage]:
        number = query.utterances[-1].number if query.utterances else 1
        reply = self._replies[(number - 1) % len(self._replies)]
        if query.unfinished and reply.glances:
            count = self._glanced[1] if self._glanced[0] == number else 0
            self._glanced = number, count + 1
            reply = reply.model_copy(update={"p1": reply.glances[min(count, len(reply.glances) - 1)]})
        self.queries.append(query)
        self.running += 1
        so_far = query.answer_so_far
        said = 0 if so_far is None else len(so_far.split())
        try:
            if so_far is None:
                await self._work(reply.verdict_s)
                await self._go_wrong(reply, 0)
                yield self._judge(query, reply)
            words = reply.text.split(" ")
            given = words[: query.max_tokens]
            for number, word in enumerate(given[said:], said + 1):
                await self._work(reply.token_s)
                await self._go_wrong(reply, number)
                yield word if number == 1 else f" {word}"
            yield Usage(
                sum(map(_words, query.history)) + _words(self._heard(query, reply)), len(given), len(given) < len(words)
            )
        finally:
            self.running -= 1

    async def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Finished]:
        """The n-th reply answers the n-th message of the user; a token is a word."""
        asked = [message for message in chat.messages if message.role == "user"]
        reply = self._replies[(len(asked) - 1) % len(self._replies)]
        sampling = chat.sampling
        text = reply.text
        for stop in sampling.stop:
            text = text.split(stop)[0]
        words = text.split(" ")
        given = words[: sampling.max_tokens]
        self.running += 1
        try:
            await self._work(reply.verdict_s)
            await self._go_wrong(reply, 0)
            spoken = any(isinstance(part, ChatAudio) for part in asked[-1].parts)
            yield self._verdict(reply, 1) if spoken else Verdict(0.0, 0.0, 1.0)
            for number, word in enumerate(given, 1):
                await self._work(reply.token_s)
                await self._go_wrong(reply, number)
                yield word if number == 1 else f" {word}"
            usage = Usage(sum(len(message.text.split()) for message in chat.messages), len(given))
            yield Finished("stop" if len(given) == len(words) else "length", usage)
        finally:
            self.running -= 1

    async def warm(self, query: Query) -> None:
        """Always warm, once it is up."""
        await self._work(0)

    def crash(self) -> None:
        """Fail every request, as if the engine's process had died."""
        self.healthy = False
        self._died.set()

    def restart(self) -> None:
        self.healthy = True
        self._died = asyncio.Event()

    async def _work(self, seconds: float) -> None:
        """Errors: `PartFailed` once it has crashed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._died.wait()
        if not self.healthy:
            raise PartFailed(self.name, "its engine died")

    async def _go_wrong(self, reply: ScriptedReply, number: int) -> None:
        if number == reply.fails_after:
            raise PartFailed(self.name, "scripted to fail")
        if number == reply.hangs_after:
            await asyncio.Event().wait()

    def _heard(self, query: Query, reply: ScriptedReply) -> UserMessage:
        return UserMessage(" ".join(utterance.text or reply.transcript or "" for utterance in query.utterances))

    def _judge(self, query: Query, reply: ScriptedReply) -> Verdict:
        typed = [utterance.text for utterance in query.utterances]
        if not typed or any(text is not None for text in typed):
            return Verdict(0.0, 0.0, 1.0, tuple(text or reply.transcript or "" for text in typed))
        return self._verdict(reply, len(typed))

    def _verdict(self, reply: ScriptedReply, utterances: int) -> Verdict:
        words = () if reply.transcript is None else (reply.transcript,) * utterances
        return Verdict(reply.p1, 1 - reply.p1, 0.0, words)

    def close(self) -> None:
        self.healthy = False


def _words(message: Message) -> int:
    return len((message.text or "").split())
