"""The responses that a client asks for and cancels."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from math import inf

from vita_duplex.engine.messages import AssistantMessage, Call, CallMessage, Message, Query, UserMessage
from vita_duplex.engine.notices import Notice, TurnAudio, TurnEnded, UtteranceAccepted
from vita_duplex.engine.session import Session
from vita_duplex.engine.settings import ReplySettings
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import (
    InputItem,
    ItemReference,
    ResponseCancel,
    ResponseCreate,
    ResponseFields,
)
from vita_duplex.server.realtime.conversation_items import ConversationItems
from vita_duplex.server.realtime.event_writer import Send
from vita_duplex.server.realtime.items import Json, response_key
from vita_duplex.server.realtime.response_events import Asked, Response
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.session_settings import SessionSettings, read_wire, refuse_unsupported

ECHO_S = 1.0
"""A `response.cancel` without an id that comes so soon after speech was accepted, or a reply interrupted, does not mean
the reply to that: stock clients send it when they hear of `speech_started`, and cannot know yet of another reply."""
ASK_S = 0.3
"""A client that has added what the user typed, and does not ask for the answer so soon, waits for `response.done`."""
LATE_S = 3.0
"""A cancel that comes so soon after the last reply ended, while there is no other, is no error: both met on the way."""


class Responses:
    """Asks the session for replies, in the conversation and beside it."""

    def __init__(
        self, session: Session, events: ServerEvents, items: ConversationItems, numbers: Iterator[int], send: Send
    ) -> None:
        self._session = session
        self._events = events
        self._items = items
        self._numbers = numbers
        self._send = send
        self._now = asyncio.get_running_loop().time
        self._awaited = inf  # since when an end of the reply may be waited for
        self._ended = self._interrupted = -inf  # when a reply was over last; when speech was accepted

    def note(self, notice: Notice) -> None:
        if isinstance(notice, TurnAudio) and self._now() >= self._awaited + ASK_S:
            if self._events.responding and (end := self._session.foreseen_end()):
                self._awaited = inf
                self._send(*self._events.end_early(end))
        elif isinstance(notice, TurnEnded):
            self._awaited = inf
            self._ended = self._now()
            if notice.cause == "turn_detected":
                self._interrupted = self._ended
        elif isinstance(notice, UtteranceAccepted) and notice.seconds is not None:
            self._interrupted = self._now()

    def typed(self) -> None:
        """The user has typed something, which the client may ask about only when the reply under way is done."""
        if self._events.responding:
            self._awaited = self._now()

    async def create(self, event: ResponseCreate, settings: SessionSettings) -> None:
        """Errors, here and below: `ClientError`."""
        self._awaited = inf
        wanted = event.response or ResponseFields()
        refuse_unsupported(wanted, event.event_id, can_call=settings.can_call)
        settings = settings.offering(wanted, "response.", event.event_id)
        reply = self._reply_settings(wanted, settings, event.event_id)
        if wanted.conversation not in (None, "auto", "none", self._events.conversation_id):
            message = f"This session has one conversation, {self._events.conversation_id!r}."
            raise ClientError("unsupported_value", message, param="response.conversation", event_id=event.event_id)
        asked = Asked(wanted.metadata, wanted.max_output_tokens or settings.max_output_tokens)
        if wanted.conversation == "none":
            self._answer_aside(wanted, reply, asked, event.event_id)
        elif self._replying and (wanted.input is not None or not self._waits):
            message = "A reply is under way; cancel it first, or add a message to be answered."
            raise ClientError("conversation_already_has_active_response", message, event_id=event.event_id)
        else:
            number = await self._session.answer_dialogue(self._numbers, reply)
            self._events.asked[number] = asked

    async def cancel(self, event: ResponseCancel) -> None:
        reply, wanted = self._events.sounding, event.response_id
        late_by = self._now() - (self._interrupted if reply else self._ended)
        if wanted is None and late_by < (ECHO_S if reply else LATE_S):
            return
        key = response_key(wanted) if wanted is not None else reply and reply.key
        if key and key[0] == "aside" and self._session.cancel_aside(key[1]):
            return
        if not key or not reply or key != reply.key:
            message = "Cancellation failed: no active response found."  # the beginning is what stock clients look for
            raise ClientError("response_cancel_not_active", message, event_id=event.event_id)
        await self._cancel(reply)

    async def clear_output(self) -> None:
        """Stop the reply under way; the client has stopped playing it."""
        if (reply := self._events.sounding) is not None:
            await self._cancel(reply)
            if not reply.playing:  # else it is told when the reply is over
                self._send(self._events.output_cleared(reply))

    async def _cancel(self, reply: Response) -> None:
        reply.cancelled = True
        await self._session.cancel_reply(reply.key[1])

    @property
    def _waits(self) -> bool:
        """Something waits to be answered."""
        return self._session.dialogue.waits or bool(self._session.calling.ledger.waiting)

    @property
    def _replying(self) -> bool:
        """A reply is under way that the client has not cancelled."""
        return self._events.responding is not None and not self._events.responding.cancelled

    def _reply_settings(self, wanted: ResponseFields, settings: SessionSettings, event_id: str | None) -> ReplySettings:
        """The session's, and what the client wants otherwise for this response."""
        own = settings.instructions if wanted.instructions is None else wanted.instructions
        if wanted.input is None:
            reply = replace(settings.reply, instructions=self._items.add_instructions(own))
        else:
            system, history = self._read_input(wanted.input, event_id)
            reply = replace(settings.reply, instructions="\n\n".join(filter(None, [own, *system])), history=history)
        if wanted.output_modalities is not None:
            reply = replace(reply, spoken="audio" in wanted.output_modalities)
        if wanted.max_output_tokens is not None:
            limit = wanted.max_output_tokens
            reply = replace(reply, max_tokens=None if isinstance(limit, str) else limit)
        said, param = wanted.audio and wanted.audio.output, "response.audio.output.format"
        if said and said.format and read_wire(said.format, f"{param}.rate", event_id) != settings.wire_out:
            message = "A response has the session's format; set session.audio.output.format."
            raise ClientError("unsupported_value", message, param=param, event_id=event_id)
        if said and said.voice is not None:
            reply = replace(reply, voice=settings.voices.chosen(said.voice, "response.audio.output.voice", event_id))
        return reply

    def _answer_aside(self, wanted: ResponseFields, reply: ReplySettings, asked: Asked, event_id: str | None) -> None:
        """There is one voice, and it belongs to the conversation: the answer is text."""
        if "audio" in (wanted.output_modalities or ()):
            message = 'A response beside the conversation is text: output_modalities must be ["text"] or left out.'
            raise ClientError("unsupported_value", message, param="response.output_modalities", event_id=event_id)
        number = next(self._numbers)
        history = self._session.dialogue.history() if reply.history is None else reply.history
        query = Query(
            history, (), reply.instructions, self._items.images, max_tokens=reply.max_tokens, tools=reply.tools
        )
        self._events.asked[number] = asked
        if not self._session.start_aside(number, query):
            del self._events.asked[number]
            raise ClientError("too_many_responses", "Too many responses are under way.", event_id=event_id)

    def _read_input(self, items: list[InputItem], event_id: str | None) -> tuple[list[str], tuple[Message, ...]]:
        """The system messages and the dialogue in the input of a response."""
        system, messages = list[str](), list[Message]()
        for item in items:
            shown = self._items.get(item.id, event_id) if isinstance(item, ItemReference) else item.model_dump()
            match shown["type"]:
                case "function_call":
                    call_id = shown["call_id"] or f"call_input_{len(messages)}"
                    messages.append(CallMessage(Call(call_id, shown["name"], shown["arguments"])))
                case "function_call_output":
                    _put_output(messages, shown["call_id"], shown["output"], event_id)
                case _:
                    role, text = _read_message(shown, event_id)
                    if role == "system":
                        system.append(text)
                    else:
                        messages.append(UserMessage(text) if role == "user" else AssistantMessage(text))
        return system, tuple(messages)


def _put_output(messages: list[Message], call_id: str, output: str, event_id: str | None) -> None:
    for place, message in enumerate(messages):
        if isinstance(message, CallMessage) and message.call.id == call_id:
            messages[place] = replace(message, output=output)
            return
    error = f"There is no call {call_id!r} before its output."
    raise ClientError("call_not_found", error, param="response.input", event_id=event_id)


def _read_message(item: Json, event_id: str | None) -> tuple[str, str]:
    """The role and the text of a message."""
    text = "\n".join(filter(None, (part.get("text") or part.get("transcript") for part in item["content"])))
    if not text and item["role"] == "user":
        message = "Only text can be the input of a response: an item there has none."
        raise ClientError("unsupported_value", message, param="response.input", event_id=event_id)
    return item["role"], text
