"""What a client may send: OpenAI Realtime GA client events, validated where they enter. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

import base64
import binascii
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from vita_duplex.engine.seams import Samples

RATES = (24_000, 16_000)
"""PCM sample rates on the wire: 24 kHz is OpenAI's only one, 16 kHz saves a third."""
TEXT_LIMIT = 20_000
"""Characters of instructions or of one typed item: more than any model's budget for them."""
AUDIO_LIMIT_MS = 86_400_000
"""No reply lasts longer than a day."""
PARTS_LIMIT = 16
"""Elements of a list. Without a limit the list of a million mistakes takes half a minute to write."""

Name = Annotated[str, Field(max_length=512)]
"""An identifier; the client's own are sent back with an error, so they are short."""


class ClientError(Exception):
    """The client sent nonsense. It is told; the session goes on."""

    def __init__(self, code: str, message: str, *, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.event_id = event_id


class _Event(BaseModel):
    """Fields that stock clients send and that have no effect here are ignored, as the reference does."""

    model_config = ConfigDict(extra="ignore")

    event_id: Name | None = None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class PcmFormat(_Part):
    type: Literal["audio/pcm"]
    rate: int = 24_000


class ServerVad(_Part):
    type: Literal["server_vad"]
    threshold: float | None = Field(None, ge=0, le=1)
    prefix_padding_ms: int | None = Field(None, ge=0, le=5000)
    silence_duration_ms: int | None = Field(None, ge=64, le=10_000)
    create_response: Literal[True] | None = None
    interrupt_response: Literal[True] | None = None
    """False for these two would be push to talk, which is not there yet; an error is better than silence."""


class AudioInput(_Part):
    format: PcmFormat | None = None
    turn_detection: ServerVad | None = None


class AudioOutput(_Part):
    format: PcmFormat | None = None


class Audio(_Part):
    input: AudioInput | None = None
    output: AudioOutput | None = None


class SessionUpdateFields(_Part):
    type: Literal["realtime"]
    instructions: str | None = Field(None, max_length=TEXT_LIMIT)
    audio: Audio | None = None
    output_modalities: list[Literal["audio"]] | None = Field(None, max_length=PARTS_LIMIT)
    tools: list[Any] | None = Field(None, max_length=0)


class SessionUpdate(_Event):
    type: Literal["session.update"]
    session: SessionUpdateFields


class AudioAppend(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: str


class AudioClear(_Event):
    type: Literal["input_audio_buffer.clear"]


class InputText(_Part):
    type: Literal["input_text"]
    text: str = Field(min_length=1, max_length=TEXT_LIMIT)


class UserItem(_Part):
    type: Literal["message"]
    role: Literal["user"]
    content: list[InputText] = Field(min_length=1, max_length=PARTS_LIMIT)

    @field_validator("content")
    @classmethod
    def _limited(cls, content: list[InputText]) -> list[InputText]:
        if sum(len(part.text) for part in content) > TEXT_LIMIT:
            raise ValueError(f"more than {TEXT_LIMIT} characters of text")
        return content


class ItemCreate(_Event):
    type: Literal["conversation.item.create"]
    item: UserItem

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.item.content)


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


class ResponseCreate(_Event):
    type: Literal["response.create"]


class ResponseCancel(_Event):
    type: Literal["response.cancel"]
    response_id: Name | None = None


ClientEvent = (
    SessionUpdate | AudioAppend | AudioClear | ItemCreate | ItemTruncate | ResponseCreate | ResponseCancel | PlaybackAck
)
SUPPORTED = (
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "response.create",
    "response.cancel",
    "playback.ack",
)
_client_event = TypeAdapter[ClientEvent](Annotated[ClientEvent, Field(discriminator="type")])


def decode(frame: str) -> ClientEvent:
    """Parse a text frame. Errors: `ClientError` with the event's own id where it has one."""
    try:
        return _client_event.validate_json(frame)
    except ValidationError as error:
        raise _explain(frame, error) from error


def _explain(frame: str, error: ValidationError) -> ClientError:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] in ("json_invalid", "string_unicode"):  # the latter: a lone surrogate, which is no text
        return ClientError("invalid_json", "The frame is not valid JSON; audio goes into binary frames or base64.")
    event_id, kind = _identify(frame)
    if first["type"].startswith("union_tag") or kind is None:
        known = ", ".join(SUPPORTED)
        return ClientError(
            "unknown_event", f"Unknown or unsupported event type {kind!r}; this server takes {known}.",
            param="type", event_id=event_id,
        )  # fmt: skip
    param = ".".join(str(part) for part in first["loc"][1:])
    return ClientError("invalid_value", f"{param}: {first['msg']}", param=param, event_id=event_id)


def _identify(frame: str) -> tuple[str | None, str | None]:
    """The event's id and type, as far as they can be made out."""
    fields = TypeAdapter(Any).validate_json(frame)
    if not isinstance(fields, dict):
        return None, None
    values = fields.get("event_id"), fields.get("type")
    event_id, kind = (value[:200] if isinstance(value, str) else None for value in values)
    return event_id, kind


def decode_base64(text: str, event_id: str | None = None) -> bytes:
    """The bytes of an `append`. Errors: `ClientError`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClientError("invalid_base64", "audio is not base64", param="audio", event_id=event_id) from error


def decode_pcm16(data: bytes, event_id: str | None = None) -> Samples:
    """Little-endian 16 bit samples as float32 in [-1, 1). Errors: `ClientError`."""
    if len(data) % 2:
        message = f"{len(data)} bytes are no whole number of 16 bit samples"
        raise ClientError("invalid_audio", message, param="audio", event_id=event_id)
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def encode_pcm16(samples: Samples) -> bytes:
    """Float32 in [-1, 1] as little-endian 16 bit samples; louder is clipped."""
    return (np.clip(samples, -1, 32767 / 32768) * 32768).round().astype("<i2").tobytes()
