"""The CPU default instance: an ASR, a judge of their words, and a language model that answers."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.cascade.completeness import completeness
from vita_duplex.engine.cascade.judge import Judge
from vita_duplex.engine.instances.text_model import TemplateMessage, TextModel
from vita_duplex.engine.joining import joined
from vita_duplex.engine.messages import (
    AssistantMessage,
    Call,
    CallMessage,
    Chat,
    ChatAudio,
    ChatImage,
    ChatMessage,
    ChatVideo,
    Finished,
    LeftOut,
    Query,
    Situation,
    Usage,
    UserMessage,
    Utterance,
    Verdict,
)
from vita_duplex.engine.ports import Asr, Transcript, Unanswerable


class Cascade:
    """What VITA does in one model, done by three small ones after each other."""

    sees = False
    follows_schemas = True

    def __init__(self, name: str, asr: Asr, judge: Judge, text: TextModel) -> None:
        self.name = name
        self._asr = asr
        self._judge = judge
        self._text = text
        self.calls = text.calls

    @property
    def healthy(self) -> bool:
        return self._text.healthy

    def close(self) -> None:
        self._text.close()

    def restart(self) -> None:
        self._text.restart()

    async def warm(self, query: Query) -> None:
        await self._text.warm(dialogue(query, ""), query.tools)

    async def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Call | Usage | LeftOut]:
        now = asyncio.get_running_loop().time
        asked = now()
        transcripts = [await self._transcribe(utterance, query.language) for utterance in query.utterances]
        if query.answer_so_far is None:
            yield self._verdict(query.utterances, transcripts, now() - asked, query.situation, query.unfinished)
        question = joined(transcript.text for transcript in transcripts) if query.utterances else None
        begun = query.answer_so_far or ""
        messages = dialogue(query, question)
        asked_for = (messages, begun, query.max_tokens, query.tools, query.retained)
        async with aclosing(self._text.reply(*asked_for)) as items:
            async for item in items:
                yield item

    async def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Call | Finished]:
        """What is said in it, also earlier, becomes text; `Unanswerable` with pictures or films in it."""
        now = asyncio.get_running_loop().time
        asked = now()
        messages: list[TemplateMessage | CallMessage] = []
        sounds: list[Utterance] = []
        for message in chat.messages:
            if isinstance(message, CallMessage):
                messages.append(message)
                continue
            sounds = [Utterance(-1, part.samples) for part in message.parts if isinstance(part, ChatAudio)]
            transcripts = [await self._transcribe(sound) for sound in sounds]
            messages.append((message.role, _read(message.parts, transcripts)))
        if sounds:
            assert isinstance(message, ChatMessage)
            typed = [Utterance(-1, text=message.text)] if message.text else []
            yield self._verdict([*sounds, *typed], transcripts, now() - asked, Situation())
        else:
            yield Verdict(0.0, 0.0, 1.0)
        async with aclosing(self._text.chat(messages, chat.sampling, chat.tools)) as items:
            async for item in items:
                yield item

    async def _transcribe(self, utterance: Utterance, language: str | None = None) -> Transcript:
        if utterance.text is not None:
            return Transcript(utterance.text)
        assert utterance.samples is not None
        return await self._asr.transcribe(utterance.samples, language)

    def _verdict(
        self,
        utterances: Sequence[Utterance],
        transcripts: Sequence[Transcript],
        asr_s: float,
        situation: Situation,
        unfinished: bool = False,
    ) -> Verdict:
        texts = tuple(transcript.text for transcript in transcripts)
        if not utterances or any(utterance.text is not None for utterance in utterances):
            return Verdict(0.0, 0.0, 1.0, texts, asr_s)
        seconds = sum(len(utterance.samples) for utterance in utterances if utterance.samples is not None) / INPUT_RATE
        said = _merge(transcripts)
        p1 = self._judge.glance(said, seconds) if unfinished else self._judge.judge(said, seconds, situation)
        return Verdict(p1, 1 - p1, 0.0, texts, asr_s, completeness(texts[-1]))


def _merge(transcripts: Sequence[Transcript]) -> Transcript:
    """Several utterances as one: their words in a row, their log-probabilities averaged by length."""
    text = joined(transcript.text for transcript in transcripts)
    total = sum(transcript.log_probability * len(transcript.text) for transcript in transcripts)
    return Transcript(text, total / sum(len(transcript.text) for transcript in transcripts) if text else 0.0)


def _read(parts: Sequence[str | ChatAudio | ChatImage | ChatVideo], transcripts: Sequence[Transcript]) -> str:
    """A message as text, what was said in its place."""
    heard, texts = iter(transcripts), list[str]()
    for part in parts:
        match part:
            case str():
                texts.append(part)
            case ChatAudio():
                texts.append(next(heard).text)
            case ChatImage() | ChatVideo():
                raise Unanswerable("the model cannot see")
    return joined(texts)


def dialogue(query: Query, question: str | None) -> list[TemplateMessage | CallMessage]:
    """The dialogue as chat messages, roles taking turns: what a user said in a row becomes one message.

    Without a question the model goes on behind the history; templates want one message at least.
    """
    messages: list[TemplateMessage | CallMessage] = [("system", query.instructions)] if query.instructions else []
    asked = (UserMessage(question or ""),) if question is not None or not (query.history or messages) else ()
    for message in (*query.history, *asked):
        if isinstance(message, CallMessage):
            messages.append(message)
            continue
        role, text = _role(message)
        before = messages[-1] if messages else None
        if isinstance(before, tuple) and before[0] == role:
            messages[-1] = (role, joined((before[1], text)))
        else:
            messages.append((role, text))
    return messages


def _role(message: UserMessage | AssistantMessage) -> TemplateMessage:
    if isinstance(message, UserMessage):
        return "user", message.text or ""
    return "assistant", message.text  # no mark where it was cut: small models learn to write it
