"""An instance without a model: it answers by script. Tests and `configs/scripted.yaml` run on it."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from itertools import count, takewhile
from typing import Any

from pydantic import Field

from vita_duplex.engine.messages import (
    Call,
    CallMessage,
    Chat,
    ChatAudio,
    ChatMessage,
    Finished,
    LeftOut,
    Message,
    Query,
    Tools,
    Usage,
    UserMessage,
    Verdict,
)
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.section import Section
from vita_duplex.engine.truncation import left_out


class ScriptedCall(Section):
    """A call of a tool, if the client offers it."""

    name: str = "*"
    """`*`: whichever the client offers first."""
    arguments: str | None = None
    """JSON, or whatever a client shall be tried with. None: an example of what the tool's schema requires."""


class ScriptedReply(Section):
    """What the instance does with an utterance."""

    p1: float = Field(1.0, ge=0, le=1)
    """Probability of `<1>`; the rest is `<2>`."""
    glances: tuple[float, ...] = ()
    """The same for glances at the utterance while it is being spoken, one after the other; then the last one for all
    others. Without any it is `p1`."""
    transcript: str | None = "a question"
    """Words that are heard. None has no words for it, as VITA."""
    calls: tuple[ScriptedCall, ...] = ()
    """What is called, as far as the client offers it."""
    text_with_calls: str = ""
    """What is said before calls, in the place of `text`."""
    text_after_calls: str = "The tool said {output}."
    """What is said, in the place of `text`, when the output of a call is to be answered."""
    text: str = "This is a scripted answer, spoken by a voice that hums. It has two sentences."
    """The answer."""
    verdict_s: float = Field(0.05, ge=0)
    """Seconds from the request to the verdict."""
    token_s: float = Field(0.02, ge=0)
    """Seconds before each word."""
    fails_after: int | None = None
    """Words after which the instance fails; 0 fails before the verdict."""
    reads: int | None = Field(None, ge=1)
    """Words of the history that there is room for; None: all."""
    hangs_after: int | None = None
    """Words after which the instance hangs; 0 gives no verdict."""


class ScriptedInstance:
    """Answers a session's utterance n with the n-th reply, and goes round again; without one with the first reply."""

    sees = True
    follows_schemas = True  # as far as the script does
    calls = True

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
        self._numbers = count(1)  # of calls

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Call | Usage | LeftOut]:
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
        outputs = [] if query.utterances else _newest_outputs(query.history)
        calls = [] if outputs and query.tools.choice == "auto" else self._calls(reply, query.tools)
        try:
            if so_far is None:
                await self._work(reply.verdict_s)
                await self._go_wrong(reply, 0)
                if missing := self._left_out(query, reply):
                    yield LeftOut(missing)
                yield self._judge(query, reply)
            words = _words(_said(reply, outputs, calls))
            given = words[: query.max_tokens]
            async for word in self._speak(reply, given, said):
                yield word
            for call in calls:
                yield call
            read = sum(len(_words(message.text)) for message in (*query.history, self._heard(query, reply)))
            yield Usage(read, len(given), len(given) < len(words))
        finally:
            self.running -= 1

    def _left_out(self, query: Query, reply: ScriptedReply) -> int:
        """Messages that there is no room for. Errors: `PartFailed` where there has to be."""
        sizes = [len(_words(message.text or "")) for message in query.history]
        room = reply.reads or sum(sizes)
        if query.retained is not None:
            return left_out(sizes, room, query.retained)
        if sum(sizes) > room:
            raise PartFailed(self.name, f"the dialogue has {sum(sizes)} words; there is room for {room}")
        return 0

    async def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Call | Finished]:
        """The n-th reply answers the n-th message of the user; a token is a word."""
        asked = [message for message in chat.messages if isinstance(message, ChatMessage) and message.role == "user"]
        reply = self._replies[(len(asked) - 1) % len(self._replies)]
        sampling = chat.sampling
        outputs = _newest_outputs(chat.messages)
        calls = [] if outputs and chat.tools.choice == "auto" else self._calls(reply, chat.tools)
        text = _said(reply, outputs, calls)
        for stop in sampling.stop:
            text = text.split(stop)[0]
        words = _words(text)
        given = words[: sampling.max_tokens]
        self.running += 1
        try:
            await self._work(reply.verdict_s)
            await self._go_wrong(reply, 0)
            spoken = bool(asked) and any(isinstance(part, ChatAudio) for part in asked[-1].parts)
            yield self._verdict(reply, 1) if spoken else Verdict(0.0, 0.0, 1.0)
            async for word in self._speak(reply, given):
                yield word
            for call in calls:
                yield call
            usage = Usage(sum(len(_words(message.text)) for message in chat.messages), len(given))
            cut = len(given) < len(words)
            yield Finished("length" if cut else "calls" if calls else "stop", usage)
        finally:
            self.running -= 1

    async def _speak(self, reply: ScriptedReply, words: Sequence[str], said: int = 0) -> AsyncGenerator[str]:
        for number, word in enumerate(words[said:], said + 1):
            await self._work(reply.token_s)
            await self._go_wrong(reply, number)
            yield word if number == 1 else f" {word}"

    def _calls(self, reply: ScriptedReply, tools: Tools) -> list[Call]:
        """What is called; where a call is required and none is scripted, the first tool."""
        offered = {tool.name: tool for tool in reversed(tools.offered)}
        if not offered:
            return []
        first = tools.offered[0]
        scripted = [(offered.get(call.name, first), call) for call in reply.calls if call.name in ("*", *offered)]
        if not scripted and tools.choice != "auto":
            scripted = [(first, ScriptedCall())]
        return [
            Call(f"call_{self.name}{next(self._numbers)}", tool.name, call.arguments or example(tool.parameters))
            for tool, call in scripted[: None if tools.parallel else 1]
        ]

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


def _words(text: str | None) -> list[str]:
    return text.split(" ") if text else []


def _newest_outputs(messages: Sequence[Message | ChatMessage]) -> list[str]:
    """Of calls that nothing was said after."""
    newest = takewhile(lambda message: isinstance(message, CallMessage), reversed(messages))
    return [message.told for message in newest if isinstance(message, CallMessage) and message.output is not None]


def _said(reply: ScriptedReply, outputs: Sequence[str], calls: Sequence[Call]) -> str:
    if calls:
        return reply.text_with_calls
    return reply.text_after_calls.format(output=" ".join(reversed(outputs))) if outputs else reply.text


def example(schema: Mapping[str, Any]) -> str:
    """Arguments with what a tool's schema requires, as JSON."""
    values = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
    fields = schema.get("properties", {})

    def value(field: Mapping[str, Any]) -> Any:
        return field["enum"][0] if field.get("enum") else values.get(field.get("type", ""), "Paris")

    return json.dumps({name: value(fields.get(name, {})) for name in schema.get("required", ())})
