"""The body of `POST /v1/responses`, as OpenAI's API reference has it, and the chat that it asks for."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError

from vita_duplex.server.errors import ClientError
from vita_duplex.server.http.chat_requests import (
    ChatRequest,
    Fields,
    InputAudioPart,
    JsonObjectFormat,
    Text,
    TextFormat,
)
from vita_duplex.server.realtime.items import Json

Known = Callable[[str], Json | None]
"""The message of an earlier answer, by the id of its item."""


class TextPart(Fields):
    type: Literal["input_text", "output_text"]
    text: Text


class RefusalPart(Fields):
    """Another server's model refused; ours never says it so."""

    type: Literal["refusal"]
    refusal: Text


class ImagePart(Fields):
    type: Literal["input_image"]
    image_url: str
    """A data URL in base64."""


Part = Annotated[TextPart | RefusalPart | ImagePart | InputAudioPart, Field(discriminator="type")]


class Message(Fields):
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[Part]


class ItemReference(Fields):
    """An item of an earlier answer that is still in the server's memory."""

    id: Text


class Reasoning(Fields):
    """No model here reasons; what another one thought is left out."""

    type: Literal["reasoning"]


class FunctionCall(Fields):
    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text


class FunctionCallOutput(Fields):
    type: Literal["function_call_output"]
    call_id: Text
    output: Text | list[TextPart]


class FunctionTool(Fields):
    type: Literal["function"]
    name: Text
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class NamedChoice(Fields):
    type: Literal["function"]
    name: Text


def _kind(item: Any) -> Any:
    if not isinstance(item, dict):
        return None
    return item.get("type") or ("message" if "role" in item else "item_reference")


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[Reasoning, Tag("reasoning")],
    Discriminator(_kind),
]


class SchemaFormat(Fields):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class TextSettings(Fields):
    format: Annotated[TextFormat | JsonObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None


class ResponsesRequest(Fields):
    """Fields that are not here are refused if they would change the answer, else ignored."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: Text | None = None
    input: Text | list[Item]
    instructions: Text | None = None
    previous_response_id: Text | None = None
    store: bool = True
    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextSettings = TextSettings()
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: Literal["auto", "none", "required"] | NamedChoice = "auto"
    parallel_tool_calls: bool = True
    metadata: dict[str, str] | None = Field(None, max_length=16)


NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "prompt": (),
    "top_logprobs": (0,),
}
"""What OpenAI has and we have not, and the values with which it does nothing."""


def messages(request: ResponsesRequest, earlier: list[Json], known: Known) -> list[Json]:
    """The dialogue as a chat has it, without instructions. Errors: `ClientError`."""
    for name, neutral in NEUTRAL.items():
        value = (request.model_extra or {}).get(name)
        if value is not None and value not in neutral:
            raise ClientError("unsupported_parameter", f"{name} is not supported here", param=name)
    if isinstance(request.input, str):
        return [*earlier, {"role": "user", "content": request.input}]
    told = list(earlier)
    for number, item in enumerate(request.input):
        match item:
            case Message(role=role, content=content):
                told.append({"role": role, "content": content if isinstance(content, str) else [*map(_part, content)]})
            case ItemReference(id=item_id):
                if (message := known(item_id)) is None:
                    told_why = f"There is no item {item_id!r} any more; send what it said."
                    raise ClientError("invalid_value", told_why, param=f"input.{number}.id")
                told.append(message)
            case FunctionCall(call_id=call_id, name=name, arguments=arguments):
                called = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
                told.append({"role": "assistant", "tool_calls": [called]})
            case FunctionCallOutput(call_id=call_id, output=output):
                text = output if isinstance(output, str) else "".join(part.text for part in output)
                told.append({"role": "tool", "tool_call_id": call_id, "content": text})
            case Reasoning():
                pass
    return told


def chat_request(request: ResponsesRequest, dialogue: list[Json]) -> ChatRequest:
    """Errors: `ClientError`, as for a chat."""
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    limits = {"max_completion_tokens": request.max_output_tokens, "response_format": _format(request.text)}
    sampling = {"temperature": request.temperature, "top_p": request.top_p}
    if not dialogue and not system:
        raise ClientError("invalid_value", "there is nothing to answer", param="input")
    body = {"model": request.model, "messages": [*system, *dialogue], **limits, **sampling, **_tools(request)}
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ClientError("invalid_value", f"{first['loc'][0]}: {first['msg']}", param="input") from error


def _tools(request: ResponsesRequest) -> Json:
    if not request.tools:
        return {}
    functions = [tool.model_dump(exclude={"type"}, exclude_none=True) for tool in request.tools]
    tools = [{"type": "function", "function": function} for function in functions]
    choice = request.tool_choice
    named = {"type": "function", "function": {"name": choice.name}} if isinstance(choice, NamedChoice) else choice
    return {"tools": tools, "tool_choice": named, "parallel_tool_calls": request.parallel_tool_calls}


def _format(text: TextSettings) -> Json | None:
    match text.format:
        case SchemaFormat(schema_=schema):
            return {"type": "json_schema", "json_schema": {"schema": schema}}
        case JsonObjectFormat():
            return {"type": "json_object"}
        case _:
            return None


def _part(part: TextPart | RefusalPart | ImagePart | InputAudioPart) -> Json:
    match part:
        case TextPart(text=text) | RefusalPart(refusal=text):
            return {"type": "text", "text": text}
        case ImagePart(image_url=url):
            return {"type": "image_url", "image_url": {"url": url}}
        case InputAudioPart():
            return part.model_dump()
