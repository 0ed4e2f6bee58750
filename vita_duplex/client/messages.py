"""What the server says: the events that concern a client, validated where they arrive."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import Pcm
from vita_duplex.engine.turn_record import TurnRecord


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float
    """When it arrived: seconds since the session began."""


class ErrorBody(BaseModel):
    code: str | None = None
    message: str = ""


class ServerError(_Event):
    type: Literal["error"]
    error: ErrorBody


class SessionCreated(_Event):
    type: Literal["session.created"]
    resume_token: str | None = None
    resume_s: float = 0.0
    """How long the session waits when the connection breaks."""


class SessionResumed(_Event):
    type: Literal["session.resumed"]


class SessionUpdated(_Event):
    type: Literal["session.updated"]


class ResponseHead(BaseModel):
    id: str
    status: str | None = None


class ResponseCreated(_Event):
    type: Literal["response.created"]
    response: ResponseHead


class ResponseDone(_Event):
    type: Literal["response.done"]
    response: ResponseHead


class TextDelta(_Event):
    type: Literal["response.output_audio_transcript.delta"]
    response_id: str
    delta: str


class AudioDelta(_Event):
    type: Literal["response.output_audio.delta"]
    response_id: str
    item_id: str = ""
    delta: str

    def samples(self) -> Pcm:
        """At 24 kHz. Errors: `TalkError`."""
        try:
            return np.frombuffer(base64.b64decode(self.delta, validate=True), "<i2").astype(np.int16)
        except (binascii.Error, ValueError) as error:
            raise TalkError("the server sent audio that is not base64 PCM16") from error


class Hold(_Event):
    type: Literal["vita.hold"]
    response_id: str


class Resume(_Event):
    type: Literal["vita.resume"]
    response_id: str


class Speech(_Event):
    type: Literal["vita.speech"]
    speaking: bool


class Verdict(_Event):
    """What the model made of one or more utterances."""

    type: Literal["vita.verdict"] = "vita.verdict"
    utterances: tuple[int, ...] = ()
    state: str | None = None
    p1: float | None = None
    p2: float | None = None
    p3: float | None = None
    accepted: bool
    reason: str = "verdict"
    transcript: str | None = None


class Roles(_Event):
    """Which instance answers and which one listens, from `at` on."""

    type: Literal["vita.roles"] = "vita.roles"
    generator: str
    monitor: str
    swaps: int = 0


@dataclass(slots=True)
class Record(TurnRecord):
    """The server's account of one turn or of one rejected utterance."""

    response_id: str | None = None

    @property
    def is_reply(self) -> bool:
        return self.response_id is not None and self.status != "rejected"


class Timeline(_Event):
    type: Literal["vita.timeline"]
    record: Record


ServerEvent = Annotated[
    ServerError
    | SessionCreated
    | SessionResumed
    | SessionUpdated
    | ResponseCreated
    | ResponseDone
    | TextDelta
    | AudioDelta
    | Hold
    | Resume
    | Speech
    | Verdict
    | Roles
    | Timeline,
    Field(discriminator="type"),
]
_server_event: TypeAdapter[ServerEvent] = TypeAdapter(ServerEvent)
_record: TypeAdapter[Record] = TypeAdapter(Record)


def as_record(fields: dict[str, Any]) -> Record:
    """Errors: `ValidationError`."""
    return _record.validate_python(fields)


def event_id(message: str | bytes) -> str | None:
    """The name of an event that a new connection may go on from; None if it has none."""
    name = json.loads(message).get("event_id")
    return name if isinstance(name, str) and name.startswith("event_") else None


def decode(message: str | bytes, now: float) -> ServerEvent | None:
    """One message of the server; None for the kinds that do not concern us. Errors: `TalkError`."""
    try:
        return _server_event.validate_python({**json.loads(message), "at": now})
    except ValidationError as error:
        if all(one["type"] == "union_tag_invalid" for one in error.errors()):
            return None
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise TalkError(f"the server sent an event that is not of the protocol: {where}") from error
    except (ValueError, TypeError) as error:
        raise TalkError("the server sent something that is not an event") from error
