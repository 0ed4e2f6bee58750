"""The responses that a client asks for and cancels."""

from collections.abc import Iterator
from dataclasses import replace

from vita_duplex.engine.messages import AssistantMessage, Message, Query, UserMessage, Utterance
from vita_duplex.engine.session import NothingToAnswer, Session
from vita_duplex.engine.settings import ReplySettings
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.client_events import (
    AssistantItem,
    Item,
    ResponseCancel,
    ResponseCreate,
    ResponseFields,
    UserItem,
)
from vita_duplex.server.realtime.conversation_items import ConversationItems
from vita_duplex.server.realtime.event_writer import Send
from vita_duplex.server.realtime.items import response_key
from vita_duplex.server.realtime.response_events import Asked
from vita_duplex.server.realtime.server_events import ServerEvents
from vita_duplex.server.realtime.session_settings import SessionSettings, refuse_unsupported


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

    async def create(self, event: ResponseCreate, settings: SessionSettings) -> None:
        """Errors, here and below: `ClientError`."""
        wanted = event.response or ResponseFields()
        refuse_unsupported(wanted, "response", event.event_id)
        reply = self._reply_settings(wanted, settings, event.event_id)
        asked = Asked(wanted.metadata, wanted.max_output_tokens or settings.max_output_tokens)
        if wanted.conversation == "none":
            self._answer_aside(wanted, replace(reply, spoken=False), asked, event.event_id)
        elif wanted.input is not None:
            message = "`input` is for `conversation: none`; add items with conversation.item.create."
            raise ClientError("unsupported_value", message, param="response.input", event_id=event.event_id)
        else:
            await self._answer(wanted, reply, asked, event.event_id)

    async def cancel(self, event: ResponseCancel) -> None:
        reply, wanted = self._events.responding, event.response_id
        key = response_key(wanted) if wanted is not None else reply and reply.key
        if key and key[0] == "aside" and self._session.cancel_aside(key[1]):
            return
        if not key or not reply or key != reply.key:
            message = "There is no such reply to cancel."
            raise ClientError("response_cancel_not_active", message, event_id=event.event_id)
        await self._session.cancel_reply(reply.key[1])

    async def clear_output(self) -> None:
        """Stop the reply under way; the client has stopped playing it."""
        if (reply := self._events.responding) is not None:
            await self._session.cancel_reply(reply.key[1])
            self._send(self._events.output_cleared(reply))

    def _reply_settings(self, wanted: ResponseFields, settings: SessionSettings, event_id: str | None) -> ReplySettings:
        """The session's, and what the client wants otherwise for this response."""
        own = settings.instructions if wanted.instructions is None else wanted.instructions
        reply = replace(settings.reply, instructions=self._items.add_instructions(own))
        if wanted.output_modalities is not None:
            reply = replace(reply, spoken="audio" in wanted.output_modalities)
        if wanted.max_output_tokens is not None:
            limit = wanted.max_output_tokens
            reply = replace(reply, max_tokens=None if isinstance(limit, str) else limit)
        if wanted.audio and wanted.audio.output and wanted.audio.output.voice is not None:
            name, param = wanted.audio.output.voice, "response.audio.output.voice"
            reply = replace(reply, voice=settings.voices.chosen(name, param, event_id))
        return reply

    async def _answer(self, wanted: ResponseFields, reply: ReplySettings, asked: Asked, event_id: str | None) -> None:
        try:
            number = await self._session.answer_waiting(reply)
        except NothingToAnswer:
            if not wanted.instructions:
                message = "Nothing to answer: add a user message first, or say in `instructions` what to do."
                raise ClientError("nothing_to_answer", message, event_id=event_id) from None
            number = next(self._numbers)
            await self._session.ask(number, wanted.instructions, reply)
        self._events.asked[number] = asked

    def _answer_aside(self, wanted: ResponseFields, reply: ReplySettings, asked: Asked, event_id: str | None) -> None:
        """There is one voice, and it belongs to the conversation: the answer is text."""
        if "audio" in (wanted.output_modalities or ()):
            message = 'A response beside the conversation is text: output_modalities must be ["text"] or left out.'
            raise ClientError("unsupported_value", message, param="response.output_modalities", event_id=event_id)
        number = next(self._numbers)
        history = self._session.dialogue.history() if wanted.input is None else _messages(wanted.input, event_id)
        if not history and not wanted.instructions:
            raise ClientError("nothing_to_answer", "Nothing to answer: `input` is empty.", event_id=event_id)
        *history_before, last = history or (UserMessage(wanted.instructions),)
        if not isinstance(last, UserMessage) or last.text is None:
            history_before, last = [*history], UserMessage(wanted.instructions or "")
        question = Utterance(number, text=last.text)
        query = Query(
            tuple(history_before), (question,), reply.instructions, self._items.images, max_tokens=reply.max_tokens
        )
        self._events.asked[number] = asked
        if not self._session.start_aside(number, query):
            del self._events.asked[number]
            raise ClientError("too_many_responses", "Too many responses are under way.", event_id=event_id)


def _messages(items: list[Item], event_id: str | None) -> tuple[Message, ...]:
    messages: list[Message] = []
    for item in items:
        if isinstance(item, UserItem) and not item.text:
            message = "Beside the conversation only text can be asked about."
            raise ClientError("unsupported_value", message, param="response.input", event_id=event_id)
        messages.append(AssistantMessage(item.text) if isinstance(item, AssistantItem) else UserMessage(item.text))
    return tuple(messages)
