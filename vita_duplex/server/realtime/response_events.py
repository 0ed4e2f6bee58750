"""The events of responses: the reply of a turn, and replies beside the conversation. Pure."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.joining import joined, separator
from vita_duplex.engine.messages import Call, Usage
from vita_duplex.engine.notices import (
    AsideCalled,
    AsideEnded,
    AsideStarted,
    AsideText,
    TurnAudio,
    TurnCalled,
    TurnEnded,
    TurnStarted,
)
from vita_duplex.server.audio.formats import DEFAULT, AudioFormat
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.realtime.event_writer import EventWriter, Frame, call_fields, item_fields
from vita_duplex.server.realtime.items import Items, Json, Key, response_id

_NO_SAMPLES: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client said about the response it asked for."""

    metadata: dict[str, str] | None = None
    max_output_tokens: int | str | None = None


@dataclass(slots=True)
class Response:
    """A response under way."""

    key: Key
    id: str
    item_id: str
    spoken: bool
    wire: AudioFormat
    resampler: Resampler
    conversation: str | None
    """None: the response is beside the conversation."""
    previous_item: str | None = None
    may_call: bool = False
    asked: Asked = Asked()
    cancelled: bool = False
    """The client has cancelled it; its end is on the way."""
    over: bool = False
    """The client was told of its end; what is left of its sound still comes."""
    playing: bool = False
    """Its client was told that its audio has begun."""
    texts: list[str] = field(default_factory=list)
    message: int | None = None
    """The place of its message among the items of its output; None: the message has not begun."""
    output: dict[int, Json] = field(default_factory=dict)
    """Its items, by their places, as far as they are done."""
    items: int = 0
    """How many have begun."""

    @property
    def text(self) -> str:
        return joined(self.texts) if self.spoken else "".join(self.texts)


ResponseNotice = TurnStarted | TurnAudio | TurnCalled | TurnEnded | AsideStarted | AsideText | AsideCalled | AsideEnded


class ResponseEvents:
    """Turns the notices of replies into events, in the order the reference gives."""

    def __init__(
        self,
        writer: EventWriter,
        items: Items,
        conversation_id: str,
        voice_rate: int,
        *,
        binary_audio: bool,
        plays: bool,
    ) -> None:
        """`voice_rate`: of the samples in `TurnAudio`. `binary_audio`: audio goes into binary frames; `plays`: its
        begin and end are events."""
        self.asked: dict[int, Asked] = {}
        """By the number of the utterance or of the aside that a response answers."""
        self.reply: Response | None = None
        """The reply under way."""
        self._writer = writer
        self._items = items
        self._conversation_id = conversation_id
        self._voice_rate = voice_rate
        self._binary_audio = binary_audio
        self._plays = plays
        self._wire = DEFAULT
        self._asides: dict[int, Response] = {}
        self._calls = count(1)

    def translate(self, notice: ResponseNotice) -> Iterator[Frame]:
        match notice:
            case TurnStarted():
                self.reply = self._open(("reply", notice.turn), notice.answers, notice.may_call, spoken=notice.spoken)
                self.reply.conversation = self._conversation_id
                yield from self._started(self.reply)
            case TurnAudio(turn, samples, text):
                if self.reply and turn == self.reply.key[1]:
                    yield from self._more(self.reply, samples, text)
            case TurnEnded():
                if self.reply and notice.turn == self.reply.key[1]:
                    response, self.reply = self.reply, None
                    yield from self._last_audio(response, notice)
                    if not response.over:
                        yield from self._ended(response, notice)
            case TurnCalled(turn, call):
                if self.reply and turn == self.reply.key[1]:
                    yield from self._called(self.reply, call)
            case AsideStarted(number, may_call):
                self._asides[number] = self._open(("aside", number), number, may_call, spoken=False)
                yield from self._started(self._asides[number])
            case AsideText(number, delta):
                yield from self._more(self._asides[number], _NO_SAMPLES, delta)
            case AsideCalled(number, call):
                yield from self._called(self._asides[number], call)
            case AsideEnded(number):
                yield from self._ended(self._asides.pop(number), notice)

    def end_early(self, notice: TurnEnded) -> Iterator[Frame]:
        """Tell the end of the reply that is being heard, with `heard`, all of its text, before all of it was heard."""
        assert self.reply
        rest = _rest(notice.heard, self.reply.text)
        if rest:
            yield from self._more(self.reply, _NO_SAMPLES, rest)
        yield from self._ended(self.reply, notice)
        self.reply.over = True

    def use(self, wire: AudioFormat) -> Iterator[Frame]:
        """Send audio like this from the next sample on. Of a reply under way: what the old resampler kept back."""
        self._wire = wire
        if (response := self.reply) is not None:
            yield from self._audio_delta(response, response.resampler.finish())
            response.wire, response.resampler = wire, Resampler(self._voice_rate, wire.rate)

    def _open(self, key: Key, answers: int | None, may_call: bool, *, spoken: bool) -> Response:
        return Response(
            key,
            response_id(key),
            self._items.id(key),
            spoken,
            self._wire,
            Resampler(self._voice_rate, self._wire.rate),
            None,
            may_call=may_call,
            asked=Asked() if answers is None else self.asked.pop(answers, Asked()),
        )

    def _started(self, response: Response) -> Iterator[Frame]:
        event = self._writer.event
        yield event("response.created", response=_resource(response, "in_progress", None, [], None))
        yield event("rate_limits.updated", rate_limits=[])
        if not response.may_call:
            yield from self._message_begun(response)

    def _message_begun(self, response: Response) -> Iterator[Frame]:
        """At once, where a message is sure to come; else with its first words."""
        event = self._writer.event
        response.message = self._next_place(response)
        if response.conversation:
            response.previous_item = self._items.last_id
        item = item_fields(response.item_id, "assistant", "in_progress", [])
        yield event("response.output_item.added", response_id=response.id, output_index=response.message, item=item)
        if response.conversation:
            self._items.put(response.key, item)
            yield event("conversation.item.added", item=item, previous_item_id=response.previous_item)
        part = {"type": "audio", "transcript": ""} if response.spoken else {"type": "text", "text": ""}
        yield self._content("response.content_part.added", response, part=part)

    def _next_place(self, response: Response) -> int:
        response.items += 1
        return response.items - 1

    def next_call(self) -> Key:
        return "call", next(self._calls)

    def _called(self, response: Response, call: Call) -> Iterator[Frame]:
        event, place = self._writer.event, self._next_place(response)
        key = self.next_call()
        item_id, previous = self._items.id(key), self._items.last_id
        at: Json = {"response_id": response.id, "output_index": place}
        begun, done = (call_fields(item_id, call, status) for status in ("in_progress", "completed"))
        response.output[place] = done
        yield event("response.output_item.added", **at, item={**begun, "arguments": ""})
        if response.conversation:
            self._items.put(key, done)
            yield event("conversation.item.added", item={**begun, "arguments": ""}, previous_item_id=previous)
        told = {**at, "item_id": item_id, "call_id": call.id}
        yield event("response.function_call_arguments.delta", **told, delta=call.arguments)
        yield event("response.function_call_arguments.done", **told, name=call.name, arguments=call.arguments)
        yield event("response.output_item.done", **at, item=done)
        if response.conversation:
            yield event("conversation.item.done", item=done, previous_item_id=previous)

    def _more(self, response: Response, samples: Samples, text: str | None) -> Iterator[Frame]:
        if text is not None and not response.over:
            if response.message is None:
                yield from self._message_begun(response)
            before = response.texts[-1] if response.texts else ""
            delta = separator(before, text) + text if response.spoken else text
            response.texts.append(text)
            kind = "response.output_audio_transcript.delta" if response.spoken else "response.output_text.delta"
            yield self._content(kind, response, delta=delta)
        yield from self._audio_delta(response, response.resampler.push(samples))

    def _audio_delta(self, response: Response, samples: Samples) -> Iterator[Frame]:
        if not len(samples):
            return
        if self._plays and not response.playing:
            response.playing = True
            yield self._writer.event("output_audio_buffer.started", response_id=response.id)
        data, ms = response.wire.encode(samples), 1000 * len(samples) / response.wire.rate
        if self._binary_audio:
            yield self._writer.audio(response.key, response.item_id, data, ms)
        else:
            event = self._content("response.output_audio.delta", response, delta=base64.b64encode(data).decode())
            yield replace(event, item_id=response.item_id, audio_ms=ms)

    def _last_audio(self, response: Response, notice: TurnEnded) -> Iterator[Frame]:
        if notice.status != "cancelled":
            yield from self._audio_delta(response, response.resampler.finish())
        if response.playing:
            kind = "cleared" if notice.status == "cancelled" else "stopped"
            yield self._writer.event(f"output_audio_buffer.{kind}", response_id=response.id)

    def _ended(self, response: Response, notice: TurnEnded | AsideEnded) -> Iterator[Frame]:
        if response.message is None and not response.output:
            yield from self._message_begun(response)  # though there is nothing in it
        if response.message is not None:
            yield from self._message_done(response, response.message, notice)
        output = [response.output[place] for place in sorted(response.output)]
        resource = _resource(response, notice.status, _details(notice), output, notice.usage)
        yield self._writer.event("response.done", response=resource)

    def _message_done(self, response: Response, place: int, notice: TurnEnded | AsideEnded) -> Iterator[Frame]:
        text = response.text  # also of a reply that was cut: clients that find anything else there have text twice
        if response.spoken:
            yield self._content("response.output_audio.done", response)
            yield self._content("response.output_audio_transcript.done", response, transcript=text)
            part, content = {"type": "audio", "transcript": text}, {"type": "output_audio", "transcript": text}
        else:
            yield self._content("response.output_text.done", response, text=text)
            part, content = {"type": "text", "text": text}, {"type": "output_text", "text": text}
        yield self._content("response.content_part.done", response, part=part)
        item_status = "completed" if notice.status == "completed" else "incomplete"
        item = item_fields(response.item_id, "assistant", item_status, [content])
        event = self._writer.event
        response.output[place] = item
        yield event("response.output_item.done", response_id=response.id, output_index=place, item=item)
        if response.conversation:
            if self._items.get(response.key):  # not deleted meanwhile
                self._items.put(response.key, item)
            yield event("conversation.item.done", item=item, previous_item_id=response.previous_item)

    def _content(self, kind: str, response: Response, **fields: Any) -> Frame:
        return self._writer.event(
            kind,
            response_id=response.id,
            item_id=response.item_id,
            output_index=response.message,
            content_index=0,
            **fields,
        )


def _rest(whole: str, told: str) -> str:
    """What comes in a text after what was told of it; nothing if that is not its beginning. Spaces do not count."""
    left = "".join(told.split())
    for at, character in enumerate(whole):
        if not left:
            return whole[at:].strip()
        if not character.isspace():
            if character != left[0]:
                return ""
            left = left[1:]
    return ""


def _resource(response: Response, status: str, details: Json | None, output: list[Json], usage: Usage | None) -> Json:
    return {
        "id": response.id,
        "object": "realtime.response",
        "conversation_id": response.conversation,
        "status": status,
        "status_details": details,
        "output": output,
        "output_modalities": ["audio" if response.spoken else "text"],
        "max_output_tokens": response.asked.max_output_tokens or "inf",
        "metadata": response.asked.metadata,
        "usage": _usage(usage),
    }


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    total = usage.input_tokens + usage.output_tokens
    return {"total_tokens": total, "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}


def _details(notice: TurnEnded | AsideEnded) -> Json | None:
    match notice.status:
        case "completed":
            return {"type": "completed"}
        case "cancelled":
            return {"type": "cancelled", "reason": notice.cause}
        case "incomplete":
            return {"type": "incomplete", "reason": notice.cause}
        case "failed":
            return {"type": "failed", "error": {"type": "server_error", "code": notice.cause}}
