"""The body of `POST /v1/chat/completions`, as OpenAI's API reference has it, and what it asks of an instance."""

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vita_duplex.engine.messages import (
    Call,
    CallMessage,
    Chat,
    ChatAudio,
    ChatImage,
    ChatMessage,
    ChatVideo,
    Sampling,
    Tools,
)
from vita_duplex.server.errors import ClientError
from vita_duplex.server.http.media import Media
from vita_duplex.server.realtime.tools import read_tools


def encodable(text: str) -> str:
    """Errors: `ValueError` for half of a surrogate pair, which JSON can hold and UTF-8 cannot."""
    text.encode()
    return text


Text = Annotated[str, AfterValidator(encodable)]


class Fields(BaseModel):
    """Fields that a client sends and nobody here knows are ignored, as the reference does. Null is no wish."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class TextPart(Fields):
    type: Literal["text"]
    text: Text


class InputAudio(Fields):
    data: str
    """Base64 of an audio file (WAV, MP3, FLAC, Ogg), also as a data URL."""
    format: str | None = None
    """Not looked at: the file says it itself."""


class InputAudioPart(Fields):
    type: Literal["input_audio"]
    input_audio: InputAudio


class Url(Fields):
    url: str
    """A data URL in base64."""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, data: Any) -> Any:
        """Some clients leave the object out."""
        return {"url": data} if isinstance(data, str) else data


class ImagePart(Fields):
    type: Literal["image_url"]
    image_url: Url


class VideoPart(Fields):
    """An addition of vLLM's, which other servers have as well."""

    type: Literal["video_url"]
    video_url: Url


class AudioPart(Fields):
    """An addition of vLLM's."""

    type: Literal["audio_url"]
    audio_url: Url


Part = Annotated[TextPart | InputAudioPart | AudioPart | ImagePart | VideoPart, Field(discriminator="type")]


class SystemMessage(Fields):
    role: Literal["system", "developer"]
    content: Text | list[TextPart]


class UserMessage(Fields):
    role: Literal["user"]
    content: Text | list[Part]


class CalledFunction(Fields):
    name: Annotated[str, Field(max_length=64)]
    arguments: Text = "{}"


class ToolCall(Fields):
    id: Annotated[str, Field(max_length=64)]
    function: CalledFunction


class AssistantMessage(Fields):
    role: Literal["assistant"]
    content: Text | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(Fields):
    """What came of a call before it."""

    role: Literal["tool"]
    tool_call_id: str
    content: Text | list[TextPart]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class StreamOptions(Fields):
    include_usage: bool = False


class TextFormat(Fields):
    type: Literal["text"]


class JsonObjectFormat(Fields):
    type: Literal["json_object"]


class JsonSchema(Fields):
    schema_: dict[str, Any] = Field(default={}, alias="schema")
    """Its `name` and `strict` are not looked at: the answer always follows it."""


class JsonSchemaFormat(Fields):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]

LONGEST_SCHEMA = 50_000
"""Characters of a schema as JSON; preparing one takes CPU time that sessions need."""


class ChatRequest(Fields):
    """Fields that are not here are refused if they would change the answer, else ignored."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: Text | None = None
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    """The older name of the same."""
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | list[Text] | None = None
    response_format: ResponseFormat | None = None

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """What the answer has to follow."""
        match self.response_format:
            case JsonObjectFormat():
                return {"type": "object"}
            case JsonSchemaFormat(json_schema=wanted):
                return wanted.schema_
            case _:
                return None

    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @property
    def shows(self) -> bool:
        """Whether there is something to see in it."""
        return any(isinstance(part, ImagePart | VideoPart) for part in self._parts)

    @property
    def _parts(self) -> list[TextPart | InputAudioPart | AudioPart | ImagePart | VideoPart]:
        return [part for message in self.messages if isinstance(message.content, list) for part in message.content]


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "functions": ([],),
    "function_call": ("none",),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
}
"""What OpenAI has and we have not, and the values with which it does nothing; null is always one."""


def check(request: ChatRequest) -> None:
    """Errors: `ClientError`."""
    for name, neutral in NEUTRAL.items():
        value = (request.model_extra or {}).get(name)
        if value is not None and value not in neutral:
            raise ClientError("unsupported_parameter", f"{name} is not supported here", param=name)
    if isinstance(request.stop, list) and len(request.stop) > 4:
        raise ClientError("invalid_value", "stop: at most four sequences", param="stop")
    if "" in _stops(request):
        raise ClientError("invalid_value", "stop: an empty sequence stops nothing", param="stop")
    if len(json.dumps(request.schema_wanted)) > LONGEST_SCHEMA:
        message = f"the schema has more than {LONGEST_SCHEMA} characters"
        raise ClientError("invalid_value", message, param="response_format")
    if request.messages[-1].role not in ("user", "tool"):
        raise ClientError("invalid_value", "the last message must be the user's, or a tool's", param="messages")


def _stops(request: ChatRequest) -> list[str]:
    return [request.stop] if isinstance(request.stop, str) else request.stop or []


def read(request: ChatRequest) -> Chat:
    """With its media decoded once. Blocks. Errors: `ClientError`."""
    media = Media()
    messages: list[ChatMessage | CallMessage] = []
    for number, message in enumerate(request.messages):
        if isinstance(message, ToolMessage):
            _put_output(messages, message, f"messages.{number}.tool_call_id")
            continue
        if message.content is not None:
            messages.append(_message(message, number, media))
        if isinstance(message, AssistantMessage):
            calls = (Call(one.id, one.function.name, one.function.arguments) for one in message.tool_calls or ())
            messages += [CallMessage(call) for call in calls]
    tools = read_tools(request.tools, request.tool_choice, request.parallel_tool_calls, Tools(), "")
    sampling = Sampling(
        request.max_completion_tokens or request.max_tokens,
        request.temperature,
        request.top_p,
        request.seed,
        tuple(_stops(request)),
        request.schema_wanted,
    )
    return Chat(_system_first(messages), sampling, tools)


def _put_output(messages: list[ChatMessage | CallMessage], message: ToolMessage, where: str) -> None:
    content = message.content if isinstance(message.content, str) else "".join(part.text for part in message.content)
    for place, call in enumerate(messages):
        if isinstance(call, CallMessage) and call.call.id == message.tool_call_id:
            messages[place] = replace(call, output=content)
            return
    raise ClientError("call_not_found", f"there is no call {message.tool_call_id[:64]!r} before it", param=where)


def _system_first(messages: list[ChatMessage | CallMessage]) -> tuple[ChatMessage | CallMessage, ...]:
    """All system messages as one at the beginning, the only place where every model's chat template takes one."""

    def is_system(message: ChatMessage | CallMessage) -> bool:
        return isinstance(message, ChatMessage) and message.role == "system"

    system = [message.text for message in messages if is_system(message)]
    others = [message for message in messages if not is_system(message)]
    return (ChatMessage("system", ("\n\n".join(system),)), *others) if system else tuple(others)


def _message(message: SystemMessage | UserMessage | AssistantMessage, number: int, media: Media) -> ChatMessage:
    role: Literal["system", "user", "assistant"] = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return ChatMessage(role, (message.content,))
    where = f"messages.{number}.content"
    assert message.content is not None
    return ChatMessage(role, tuple(_part(part, f"{where}.{at}", media) for at, part in enumerate(message.content)))


def _part(part: Part, where: str, media: Media) -> str | ChatAudio | ChatImage | ChatVideo:
    match part:
        case TextPart():
            return part.text
        case InputAudioPart():
            return media.audio(part.input_audio.data, where)
        case AudioPart():
            return media.audio(part.audio_url.url, where)
        case ImagePart():
            return media.image(part.image_url.url, where)
        case VideoPart():
            return media.video(part.video_url.url, where)
