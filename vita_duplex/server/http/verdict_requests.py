"""The body of `POST /v1/verdict`, as JSON or as a form, and what it asks of an instance."""

import base64
import json
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from vita_duplex.engine.messages import AssistantMessage, Message, Query, Situation, UserMessage, Utterance
from vita_duplex.engine.playback import last_sentence
from vita_duplex.server.errors import ClientError
from vita_duplex.server.http.chat_requests import Text
from vita_duplex.server.http.media import Media
from vita_duplex.server.realtime.audio_fields import Transcription
from vita_duplex.server.realtime.client_events import TEXT_LIMIT

MOST_MESSAGES = 64
"""Of a dialogue; a session keeps no more."""
LONGEST_S = 86_400
"""A day: no session lasts longer."""
JSON_FIELDS = ("situation", "messages")
"""Fields that are JSON within a form."""


class _Fields(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False, extra="forbid")


class SituationFields(_Fields):
    """What the clip was said into."""

    reply: Literal["speaking", "after", "idle"]
    """A reply of the assistant is being heard · one has ended · nothing was said yet."""
    seconds: float = Field(0.0, ge=0, le=LONGEST_S)
    """Since the reply ended."""
    last_words: Text = Field("", max_length=TEXT_LIMIT)
    """Of the assistant, as far as they were heard; the last sentence counts."""


class DialogueMessage(_Fields):
    """What was said before."""

    role: Literal["system", "user", "assistant"]
    content: Text = Field(max_length=TEXT_LIMIT)


class VerdictRequest(_Fields):
    """A misspelt field is refused: without it the verdict would be about something else."""

    audio: str = Field(min_length=1)
    """Base64 of an audio file (WAV, MP3, FLAC, Ogg), at most 200 s; also as a data URL."""
    model: Text | None = None
    situation: SituationFields | None = None
    """Without it: after the last message if that is the assistant's, else `idle`."""
    messages: list[DialogueMessage] = Field(default=[], max_length=MOST_MESSAGES)
    """The dialogue so far, oldest first: at most 20,000 characters."""
    language: Annotated[str | None, *Transcription.model_fields["language"].metadata] = None
    """What the user speaks (ISO 639-1), for an ASR that knows several languages."""


async def parse(request: Request) -> VerdictRequest:
    """Errors: `ClientError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        fields = await _form(request)
    else:
        fields = _json(await request.body(), None)
    try:
        parsed = VerdictRequest.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(map(str, first["loc"]))
        raise ClientError("invalid_value", f"{param or 'the body'}: {first['msg']}", param=param or None) from error
    if sum(len(message.content) for message in parsed.messages) > TEXT_LIMIT:
        message = f"messages: more than {TEXT_LIMIT} characters together"
        raise ClientError("context_too_long", message, param="messages")
    return parsed


async def _form(request: Request) -> dict[str, Any]:
    """The clip is the part `file`, as in OpenAI's `/v1/audio/transcriptions`; the others are text."""
    try:
        form = await request.form(max_files=1, max_fields=8)
    except HTTPException as error:
        raise ClientError("invalid_request", f"the form cannot be read: {error.detail}") from error
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            fields["audio" if name == "file" else name] = base64.b64encode(await value.read()).decode()
        else:
            fields[name] = _json(value, name) if name in JSON_FIELDS else value
    return fields


def _json(text: str | bytes, param: str | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClientError("invalid_json", f"{param or 'the body'} is not valid JSON", param=param) from error


def read(request: VerdictRequest) -> Query:
    """With its clip decoded. Blocks. Errors: `ClientError`."""
    clip = Media().audio(request.audio, "audio")
    system = [message.content for message in request.messages if message.role == "system"]
    history = tuple(
        UserMessage(message.content) if message.role == "user" else AssistantMessage(message.content)
        for message in request.messages
        if message.role != "system"
    )
    situation = _situation(request.situation, history)
    said = (Utterance(1, clip.samples),)
    return Query(history, said, "\n\n".join(system), situation=situation, language=request.language, max_tokens=1)


def _situation(given: SituationFields | None, history: tuple[Message, ...]) -> Situation:
    if given:
        return Situation(given.reply, given.seconds, last_sentence(given.last_words))
    if history and isinstance(history[-1], AssistantMessage):
        return Situation("after", 0.0, last_sentence(history[-1].text))
    return Situation()
