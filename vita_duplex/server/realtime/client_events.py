"""What a client may send: OpenAI Realtime GA client events, validated where they enter. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from vita_duplex.engine.events import BargeIn
from vita_duplex.server.base64_text import unbase64
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime import beta_names
from vita_duplex.server.realtime.audio_fields import Audio, Format, Name, VoiceName
from vita_duplex.server.realtime.tools import ToolName

Event = TypeVar("Event")

TEXT_LIMIT = 20_000
"""Characters of one item."""
INSTRUCTIONS_LIMIT = 200_000
"""Characters of instructions: more than any model's budget for them."""
AUDIO_LIMIT_MS = 86_400_000
"""No reply lasts longer than a day."""
OUTPUT_LIMIT = 65_536
"""Characters of a call's arguments or output."""
PARTS_LIMIT = 16
"""Elements of a list. Without a limit the list of a million mistakes takes half a minute to write."""
METADATA_LIMIT = 16
"""Pairs, as in the reference; their names and values are as short as identifiers."""

_EVENT_ID = re.compile(r'"event_id"\s*:\s*"([^"\\\x00-\x1f]{0,200}+)[^\\\x00-\x1f]')
"""Of a frame that cannot be read: what stands there as plain text."""


class _Event(BaseModel):
    """Fields that stock clients send and that have no effect here are ignored, as the reference does."""

    model_config = ConfigDict(extra="ignore")

    event_id: Name | None = None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


def _read_number(value: object) -> object:
    """The reference has text where some clients have numbers."""
    return str(value) if isinstance(value, int | float) else value


Probability = Annotated[float, Field(ge=0, le=1)]


class OwnThresholds(BaseModel):
    """By what an utterance is said into, as `Thresholds`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    speaking: Probability | None = None
    after: Probability | None = None
    idle: Probability | None = None


class OwnSettings(BaseModel):
    """Of a session; not OpenAI's, so nobody sends them by habit, and what is misspelt is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    barge_in: BargeIn | None = None
    verdict_threshold: Probability | None = None
    threshold: OwnThresholds | None = None
    echo_guard: bool | Literal["auto"] | None = None


Modalities = Annotated[list[Literal["audio", "text"]], Field(min_length=1, max_length=2)]
MaxTokens = Annotated[int, Field(ge=1)] | Literal["inf"]


class _ReplyFields(_Part):
    """What a session and a single response may be asked for."""

    instructions: str | None = Field(None, max_length=INSTRUCTIONS_LIMIT)
    output_modalities: Modalities | None = None
    max_output_tokens: MaxTokens | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    prompt: Any = None
    """There to be refused in words."""

    @model_validator(mode="before")
    @classmethod
    def _translated(cls, fields: object) -> object:
        return beta_names.translated(fields)


class Retention(_Part):
    """Fields besides the ratio are for OpenAI's own limits of tokens."""

    type: Literal["retention_ratio"]
    retention_ratio: float = Field(ge=0, le=1)


class SessionUpdateFields(_ReplyFields):
    truncation: Literal["auto", "disabled"] | Retention | None = None
    type: Literal["realtime", "transcription"] | None = None
    audio: Audio | None = None
    temperature: Any = None
    """Of the beta; there to be refused in words."""
    vita: OwnSettings | None = None


class SessionUpdate(_Event):
    type: Literal["session.update"]
    session: SessionUpdateFields


class AudioAppend(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: str


class AudioCommit(_Event):
    type: Literal["input_audio_buffer.commit"]


class AudioClear(_Event):
    type: Literal["input_audio_buffer.clear"]


class InputText(_Part):
    type: Literal["input_text"]
    text: str = Field(min_length=1, max_length=TEXT_LIMIT)


class InputAudio(_Part):
    type: Literal["input_audio"]
    audio: str = Field(min_length=1)
    """Base64, in the session's input format."""


class InputImage(_Part):
    type: Literal["input_image"]
    image_url: str = Field(min_length=1)
    """A data URL with a PNG or JPEG; nothing is fetched."""


class OutputText(_Part):
    type: Literal["output_text", "text"]
    text: str = Field(max_length=TEXT_LIMIT)


class OutputAudio(_Part):
    """A past reply that a client brings along; its sound is not needed."""

    type: Literal["output_audio", "audio"]
    transcript: str = Field(max_length=TEXT_LIMIT)

    @property
    def text(self) -> str:
        return self.transcript


UserPart = Annotated[InputText | InputAudio | InputImage, Field(discriminator="type")]


ItemId = Annotated[str, Field(min_length=1, max_length=64)] | None


class _Item(_Part):
    type: Literal["message"]
    id: ItemId = None


class UserItem(_Item):
    role: Literal["user"]
    content: list[UserPart] = Field(min_length=1, max_length=PARTS_LIMIT)

    @field_validator("content")
    @classmethod
    def _limited(cls, content: list[UserPart]) -> list[UserPart]:
        if sum(len(part.text) for part in content if isinstance(part, InputText)) > TEXT_LIMIT:
            raise ValueError(f"more than {TEXT_LIMIT} characters of text")
        return content

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if isinstance(part, InputText))


class SystemItem(_Item):
    role: Literal["system"]
    content: list[InputText] = Field(min_length=1, max_length=PARTS_LIMIT)

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content)


class AssistantItem(_Item):
    role: Literal["assistant"]
    content: list[Annotated[OutputText | OutputAudio, Field(discriminator="type")]] = Field(
        min_length=1, max_length=PARTS_LIMIT
    )

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.content)


class CallItem(_Part):
    """A call of an earlier conversation."""

    type: Literal["function_call"]
    id: ItemId = None
    call_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    name: ToolName
    arguments: str = Field(max_length=OUTPUT_LIMIT)

    @field_validator("arguments")
    @classmethod
    def _json(cls, arguments: str) -> str:
        if not isinstance(json.loads(arguments or "{}"), dict):
            raise ValueError("no JSON object")
        return arguments


class OutputItem(_Part):
    """What came of a call."""

    type: Literal["function_call_output"]
    id: ItemId = None
    call_id: Annotated[str, Field(min_length=1, max_length=64)]
    output: str = Field(max_length=OUTPUT_LIMIT)


MessageItem = Annotated[UserItem | SystemItem | AssistantItem, Field(discriminator="role")]
Item = Annotated[MessageItem | CallItem | OutputItem, Field(discriminator="type")]


class ItemReference(_Part):
    """An item of the conversation, in the input of a response."""

    type: Literal["item_reference"]
    id: Name


InputItem = Annotated[ItemReference | Item, Field(discriminator="type")]


class ItemCreate(_Event):
    type: Literal["conversation.item.create"]
    item: Item
    previous_item_id: Name | None = None


class ItemRetrieve(_Event):
    type: Literal["conversation.item.retrieve"]
    item_id: Name


class ItemDelete(_Event):
    type: Literal["conversation.item.delete"]
    item_id: Name


class ItemTruncate(_Event):
    """The client stopped playing a reply there, or will."""

    type: Literal["conversation.item.truncate"]
    item_id: Name
    content_index: Literal[0] = 0
    audio_end_ms: int = Field(ge=0, le=AUDIO_LIMIT_MS)


class PlaybackAck(_Event):
    """How much of a reply the client has played. Not OpenAI's: the name and fields are those of vllm-omni."""

    type: Literal["playback.ack"]
    item_id: Name
    played_ms: int = Field(ge=0, le=AUDIO_LIMIT_MS)


class Heartbeat(_Event):
    """The client is there, and will say so again. Not OpenAI's: the name is that of vllm-omni."""

    type: Literal["session.heartbeat"]


class UtteranceAccept(_Event):
    """The last utterance that was left alone was meant for us. Not OpenAI's, as the next one."""

    type: Literal["vita.utterance.accept"]
    utterance: int = Field(ge=0, strict=True)
    """One of those in its `vita.verdict`."""


class UtteranceReject(_Event):
    """The last utterance that was answered was not."""

    type: Literal["vita.utterance.reject"]
    utterance: int = Field(ge=0, strict=True)


class ResponseOutput(_Part):
    format: Format | None = None
    voice: VoiceName | None = None


class ResponseAudio(_Part):
    output: ResponseOutput | None = None


class ResponseFields(_ReplyFields):
    audio: ResponseAudio | None = None
    conversation: Name | None = None
    """`auto`, `none`, or the session's own."""
    input: list[InputItem] | None = Field(None, max_length=PARTS_LIMIT)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[Name, BeforeValidator(_read_number)]] | None = Field(
        None, max_length=METADATA_LIMIT
    )


class ResponseCreate(_Event):
    type: Literal["response.create"]
    response: ResponseFields | None = None


class ResponseCancel(_Event):
    type: Literal["response.cancel"]
    response_id: Name | None = None


class OutputClear(_Event):
    type: Literal["output_audio_buffer.clear"]


ClientEvent = (
    SessionUpdate
    | AudioAppend
    | AudioCommit
    | AudioClear
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
    | OutputClear
    | PlaybackAck
    | Heartbeat
    | UtteranceAccept
    | UtteranceReject
)
SUPPORTED = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.delete",
    "conversation.item.truncate",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
    "playback.ack",
    "session.heartbeat",
    "vita.utterance.accept",
    "vita.utterance.reject",
)
_client_event = TypeAdapter[ClientEvent](Annotated[ClientEvent, Field(discriminator="type")])


def decode(frame: str) -> ClientEvent:
    """Parse a text frame. Errors: `ClientError` with the event's own id where it can be made out."""
    return decode_as(_client_event, SUPPORTED, frame)


def decode_as(events: TypeAdapter[Event], known: Sequence[str], frame: str) -> Event:
    """Parse a text frame as one of some events, whose types are `known`. Errors: `ClientError`, as `decode`."""
    try:
        return events.validate_json(frame)
    except ValidationError as error:
        raise _explain(frame, error, known) from error


def _explain(frame: str, error: ValidationError, known: Sequence[str]) -> ClientError:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in ("json_invalid", "string_unicode"):  # the latter: a lone surrogate, which is no text
        message = "The frame is not valid JSON, or nested too deeply; audio goes into binary frames or base64."
        named = _EVENT_ID.search(frame)
        return ClientError("invalid_json", message, event_id=named[1] if named else None)
    fields = TypeAdapter(Any).validate_json(frame)
    event_id, kind = _text(fields, "event_id"), _text(fields, "type")
    if not first["loc"] or kind is None:
        return ClientError(
            "unknown_event", f"Unknown or unsupported event type {kind!r}; this server takes {', '.join(known)}.",
            param="type", event_id=event_id,
        )  # fmt: skip
    location = first["loc"][1:]
    if first["type"].startswith("union_tag"):  # the error is where it is said what this is
        location = (*location, first["ctx"]["discriminator"].strip("'"))
    param = _path(fields, location)
    return ClientError("invalid_value", f"{param}: {first['msg']}", param=param, event_id=event_id)


def _text(fields: Any, name: str) -> str | None:
    """The event's id or type, as far as it can be made out."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value[:200] if isinstance(value, str) else None


def _path(fields: Any, location: tuple[int | str, ...]) -> str:
    """Where the error is, by the names in the event; pydantic also names the alternatives it went into."""
    names: list[str] = []
    for number, part in enumerate(location):
        known = isinstance(part, int) or (isinstance(fields, dict) and part in fields)
        if known:
            fields = fields[part]
        if known or (number == len(location) - 1 and isinstance(fields, dict)):  # the latter: it is missing
            names.append(str(part))
    return ".".join(names)


def decode_base64(text: str, event_id: str | None = None) -> bytes:
    """The bytes of an `append`. Errors: `ClientError`."""
    try:
        return unbase64(text)
    except ValueError as error:
        raise ClientError("invalid_base64", "audio is not base64", param="audio", event_id=event_id) from error
