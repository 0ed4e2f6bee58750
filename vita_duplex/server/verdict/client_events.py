"""What a client of `/v1/verdict` may send, validated where it enters. Pure."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from vita_duplex.server.realtime.audio_fields import Name
from vita_duplex.server.realtime.client_events import (
    TEXT_LIMIT,
    AudioAppend,
    AudioClear,
    Heartbeat,
    SessionUpdate,
    _Event,
    decode_as,
)


class ReplyStarted(_Event):
    """The application begins to be heard."""

    type: Literal["reply.started"]
    reply_id: Name | None = None
    """The application's name for it; it comes back with what concerns this reply."""
    text: str | None = Field(None, max_length=TEXT_LIMIT)
    """Its first words, or all of them."""


class ReplyText(_Event):
    """More words of the reply under way, as they are heard."""

    type: Literal["reply.text"]
    delta: str = Field(min_length=1, max_length=TEXT_LIMIT)


class ReplyEnded(_Event):
    """The application is not heard any more, whether it was done or has stopped."""

    type: Literal["reply.ended"]
    reply_id: Name | None = None


VerdictClientEvent = SessionUpdate | AudioAppend | AudioClear | Heartbeat | ReplyStarted | ReplyText | ReplyEnded
SUPPORTED = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.clear",
    "session.heartbeat",
    "reply.started",
    "reply.text",
    "reply.ended",
)
_events = TypeAdapter[VerdictClientEvent](Annotated[VerdictClientEvent, Field(discriminator="type")])


def decode(frame: str) -> VerdictClientEvent:
    """Parse a text frame. Errors: `ClientError` with the event's own id where it can be made out."""
    return decode_as(_events, SUPPORTED, frame)
