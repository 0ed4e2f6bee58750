"""`POST /v1/audio/transcriptions`: the server's ASR writes down a recording, in OpenAI's form."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from vita_duplex.engine.audio import INPUT_RATE
from vita_duplex.engine.ports import Asr, PartFailed
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.errors import ClientError, Refusal, error_body
from vita_duplex.server.http import sse, transcripts
from vita_duplex.server.http.media import decode_recording
from vita_duplex.server.http.places import NoPlace, Streamed, place, unless_gone
from vita_duplex.server.http.transcripts import PLAIN, Segment, Transcription
from vita_duplex.server.realtime import audio_fields
from vita_duplex.server.server import Server
from vita_duplex.vad.recording import Stretch, stretches

PATH = "/v1/audio/transcriptions"


class TranscriptionForm(BaseModel):
    """Other fields are ignored, `model`, `prompt` and `temperature` among them: there is one ASR."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    file: UploadFile
    """A recording (WAV, FLAC, MP3, Ogg), at most 30 minutes."""
    language: Annotated[str | None, *audio_fields.Transcription.model_fields["language"].metadata] = None
    """What is spoken (ISO 639-1), for an ASR that knows several languages."""
    response_format: transcripts.Form = "json"
    """All but `json` and `text` have the times of each utterance, as the VAD finds it."""
    stream: bool = False
    """Sends each utterance as soon as it is written down."""
    include: list[str] = Field(default=[], alias="include[]")
    timestamp_granularities: list[str] = Field(default=[], alias="timestamp_granularities[]")


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        PATH,
        response_class=Response,
        responses={
            200: {"content": {"application/json": {}, "text/plain": {}, "text/event-stream": {}}},
            "4XX": {"description": "an error in OpenAI's form"},
            "5XX": {"description": "an error in OpenAI's form"},
        },
    )
    async def create(
        form: Annotated[TranscriptionForm, Form()], request: Request, caller: Annotated[Caller, Depends(caller)]
    ) -> Response:
        """Write down what is said in a recording. The recording and its words are kept nowhere."""
        if refusal := server.closed:
            raise NoPlace(refusal)
        _check(form)
        told = Transcription(form.language)
        deltas = _deltas(server, caller, form, told)
        if not form.stream:
            await unless_gone(request, _exhaust(deltas))
            if plain := PLAIN.get(form.response_format):
                return PlainTextResponse(plain(told))
            as_json = transcripts.verbose if form.response_format == "verbose_json" else transcripts.short
            return JSONResponse(as_json(told))
        try:
            first = await unless_gone(request, anext(deltas, ""))
        except BaseException:
            await deltas.aclose()
            raise
        limit_s = server.config.limits.session_s
        return Streamed(_events(first, deltas, told), deltas, "text/event-stream", limit_s)

    return routes


def _check(form: TranscriptionForm) -> None:
    """Errors: `ClientError`."""
    if form.include:
        raise ClientError("unsupported_parameter", "There are no log-probabilities to include.", param="include")
    if "word" in form.timestamp_granularities:
        message = "Times are those of utterances (`segment`), not of words."
        raise ClientError("unsupported_value", message, param="timestamp_granularities")
    if form.stream and form.response_format not in ("json", "text"):
        message = "A streamed transcription is events, whose response_format is json or text."
        raise ClientError("unsupported_value", message, param="response_format")


async def _deltas(server: Server, caller: Caller, form: TranscriptionForm, told: Transcription) -> AsyncGenerator[str]:
    """The text as it grows, and `told` with it. Errors: `NoPlace`, `ClientError`, `PartFailed`."""
    assert server.parts is not None
    asr = server.parts.transcriber
    if asr is None:
        raise NoPlace(Refusal("no_asr", "This server has no ASR; its operator can choose one with asr.kind."))
    with place(server, caller, PATH, form.file.size or 0):
        samples = await asyncio.to_thread(decode_recording, await form.file.read(), "file")
        told.seconds = len(samples) / INPUT_RATE
        found = stretches(samples, server.parts.detector, server.config.vad.endpoint)
        async with aclosing(found):
            async for stretch in found:
                segment = await _segment(asr, stretch, form.language)
                if segment.text and (delta := told.add(segment)):
                    yield delta


async def _segment(asr: Asr, stretch: Stretch, language: str | None) -> Segment:
    """Errors: `PartFailed`."""
    heard = await asr.transcribe(stretch.samples, language)
    return Segment(stretch.start / INPUT_RATE, stretch.end / INPUT_RATE, heard.text, heard.log_probability)


async def _exhaust(deltas: AsyncGenerator[str]) -> None:
    async with aclosing(deltas):
        async for _ in deltas:
            pass


async def _events(first: str, deltas: AsyncGenerator[str], told: Transcription) -> AsyncIterator[str]:
    """Server-sent events; an error in the middle is one, too."""
    try:
        if first:
            yield sse.event({"type": "transcript.text.delta", "delta": first})
        async for delta in deltas:
            yield sse.event({"type": "transcript.text.delta", "delta": delta})
        yield sse.event({"type": "transcript.text.done", "text": told.text})
    except PartFailed as failure:
        yield sse.event(error_body("part_failed", str(failure), kind="server_error"))
    yield sse.DONE
