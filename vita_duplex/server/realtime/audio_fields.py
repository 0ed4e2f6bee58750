"""The settings of a session that are about sound: formats, turn detection, transcription, the voice. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vita_duplex.server.realtime import beta_names

Name = Annotated[str, Field(max_length=512)]
"""An identifier; the client's own are sent back with an error, so they are short."""
IDLE_TIMEOUT_LIMIT_MS = 3_600_000
"""An hour: no session lasts longer by default."""


class _Fields(BaseModel):
    """What stock clients send and what has no effect here is ignored, as the reference does."""

    model_config = ConfigDict(extra="ignore")


class PcmFormat(_Fields):
    type: Literal["audio/pcm"]
    rate: int = 24_000


class G711Format(_Fields):
    type: Literal["audio/pcmu", "audio/pcma"]


Format = Annotated[
    Annotated[PcmFormat | G711Format, Field(discriminator="type")], BeforeValidator(beta_names.translated_format)
]


class ServerVad(_Fields):
    type: Literal["server_vad"]
    threshold: float | None = Field(None, ge=0, le=1)
    prefix_padding_ms: int | None = Field(None, ge=0, le=5000)
    silence_duration_ms: int | None = Field(None, ge=0, le=10_000)
    create_response: bool | None = None
    interrupt_response: bool | None = None
    idle_timeout_ms: int | None = Field(None, ge=1000, le=IDLE_TIMEOUT_LIMIT_MS)


class SemanticVad(_Fields):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None


TurnDetection = Annotated[ServerVad | SemanticVad, Field(discriminator="type")]


def _read_detection(value: object) -> object:
    """pipecat says false where the reference says null, others a type "none", or no type."""
    if value is False or (isinstance(value, dict) and value.get("type") == "none"):
        return None
    return {"type": "server_vad", **value} if isinstance(value, dict) else value


def _read_language(value: object) -> object:
    """Clients that want the language found say so in one of these ways."""
    return None if value in ("", "auto") else value


class Transcription(_Fields):
    """Which model, and hints for it. The server has chosen its ASR; of these only the language counts."""

    model: str | None = Field(None, max_length=200)
    language: Annotated[str | None, BeforeValidator(_read_language)] = Field(
        None, pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$", max_length=35
    )


class AudioInput(_Fields):
    format: Format | None = None
    transcription: Transcription | None = None
    turn_detection: Annotated[TurnDetection | None, BeforeValidator(_read_detection)] = None


class _VoiceId(_Fields):
    """How OpenAI refers to a voice of one's own."""

    id: Name


def _id_of_voice(value: object) -> object:
    return value["id"] if isinstance(value, dict) and "id" in value else value


VoiceName = Annotated[Name, BeforeValidator(_id_of_voice, json_schema_input_type=Name | _VoiceId)]


class AudioOutput(_Fields):
    format: Format | None = None
    speed: float | None = Field(None, ge=0.25, le=1.5)
    voice: VoiceName | None = None


class Audio(_Fields):
    input: AudioInput | None = None
    output: AudioOutput | None = None
