"""`POST /v1/audio/speech`: the server's voice reads a text, streamed as it is synthesised, in OpenAI's form."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import Field

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed, Synthesiser
from vita_duplex.server.access.auth import Caller
from vita_duplex.server.audio.encoders import MEDIA_TYPES, encoder
from vita_duplex.server.audio.formats import DEFAULT
from vita_duplex.server.audio.resample import Resampler
from vita_duplex.server.errors import ClientError, error_body
from vita_duplex.server.http import sse
from vita_duplex.server.http.chat_requests import Fields, Text
from vita_duplex.server.http.places import NoPlace, Streamed, chain, place, unless_gone
from vita_duplex.server.realtime.audio_fields import VoiceName
from vita_duplex.server.server import Server
from vita_duplex.tts.text.maths import Language
from vita_duplex.tts.text.normalise import language_of
from vita_duplex.tts.text.normaliser import Normalise
from vita_duplex.tts.text.sentences import Sentences
from vita_duplex.tts.voices.queue import VoiceQueue

PATH = "/v1/audio/speech"
LONGEST = 4096
"""Characters; OpenAI's number."""


class SpeechRequest(Fields):
    input: Text = Field(min_length=1, max_length=LONGEST)
    model: str | None = None
    """Not looked at: there is one."""
    voice: VoiceName | None = None
    """One of `GET /v1/audio/voices`; OpenAI's own names mean the default."""
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    """At 24 kHz, mono; `pcm` is 16 bits little-endian, `flac` comes in one piece. There is no encoder for AAC."""
    speed: float = Field(1.0, ge=0.25, le=4)
    instructions: str | None = None
    stream_format: Literal["audio", "sse"] = "audio"
    """`sse`: as events `speech.audio.delta`, with the portions of the file in base64, and `speech.audio.done`."""


def router(server: Server, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        PATH,
        response_class=Response,
        responses={
            200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "the sound, as it is made"},
            "4XX": {"description": "an error in OpenAI's form"},
            "5XX": {"description": "an error in OpenAI's form"},
        },
    )
    async def create(body: SpeechRequest, request: Request, caller: Annotated[Caller, Depends(caller)]) -> Response:
        """Read a text aloud. If the voice fails in the middle, the connection breaks."""
        if refusal := server.closed:
            raise NoPlace(refusal)
        _check(body)
        assert server.parts is not None
        names = server.parts.voice_names
        voice = server.parts.voice_of(names.chosen(body.voice, "voice") if body.voice is not None else None)
        portions = _portions(server, caller, voice, body, len(await request.body()))
        try:
            first = await unless_gone(request, anext(portions, b""))
        except BaseException:
            await portions.aclose()
            raise
        limit_s, file = server.config.limits.session_s, chain(first, portions)
        if body.stream_format == "sse":
            return Streamed(_events(file), portions, "text/event-stream", limit_s)
        return Streamed(file, portions, MEDIA_TYPES[body.response_format], limit_s)

    @routes.get("/v1/audio/voices", dependencies=[Depends(caller)])
    async def voices() -> dict[str, Any]:
        """The names that `voice` may have, the default among them."""
        if refusal := server.closed:
            raise NoPlace(refusal)
        assert server.parts is not None
        names = server.parts.voice_names
        return {"voices": list(names.all), "default": names.default}

    return routes


async def _events(file: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """A sound file as server-sent events. No voice here counts tokens."""
    try:
        async for portion in file:
            yield sse.event({"type": "speech.audio.delta", "audio": base64.b64encode(portion).decode()})
        usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        yield sse.event({"type": "speech.audio.done", "usage": usage})
    except PartFailed as failure:
        yield sse.event(error_body("part_failed", str(failure), kind="server_error"))
    yield sse.DONE


def _check(body: SpeechRequest) -> None:
    """Errors: `ClientError`."""
    if body.speed != 1:
        raise ClientError("unsupported_value", "The voice has one speed, 1.0.", param="speed")
    if body.instructions:
        raise ClientError("unsupported_parameter", "The voice takes no instructions.", param="instructions")


async def _pieces(text: str, normalise: Normalise) -> AsyncGenerator[str]:
    """The sayable form of each piece of a text, the first one short. Errors: `ClientError` if none can be said."""
    sentences = Sentences()
    language: Language = "en"
    empty = True
    for piece in [*sentences.push(text, 0.0), *sentences.finish()]:
        language = language_of(piece, language)
        if sayable := await normalise(piece, language):
            empty = False
            yield sayable
    if empty:
        raise ClientError("invalid_value", "there is nothing in it that can be said", param="input")


async def _portions(
    server: Server, caller: Caller, voice: Synthesiser, body: SpeechRequest, size: int
) -> AsyncGenerator[bytes]:
    """The sound file. Errors: `NoPlace`, `ClientError`, `PartFailed`."""
    assert server.parts is not None
    with place(server, caller, PATH, size):
        rate = DEFAULT.rate
        resampler, file = Resampler(voice.rate, rate), encoder(body.response_format, rate)
        async with (
            aclosing(_pieces(body.input, server.parts.normaliser)) as pieces,
            aclosing(_speak(voice, server.parts.voice_queue, pieces)) as speech,
        ):
            async for samples in speech:
                if portion := await asyncio.to_thread(file.push, resampler.push(samples)):
                    yield portion
        rest = await asyncio.to_thread(lambda: file.push(resampler.finish()) + file.finish())
        if rest:
            yield rest


async def _speak(
    voice: Synthesiser, voice_queue: VoiceQueue | None, pieces: AsyncIterator[str]
) -> AsyncGenerator[Samples]:
    """At the voice's own rate. Errors: `PartFailed`."""
    now = asyncio.get_running_loop().time
    began, made = now(), 0
    async for piece in pieces:
        async with aclosing(voice.synthesise(piece)) as sound:
            while True:
                if voice_queue is None:
                    samples = await anext(sound, None)
                else:  # whoever listens has heard no more than was made
                    async with voice_queue.admit(max(now(), began + made / voice.rate)):
                        samples = await anext(sound, None)
                if samples is None:
                    break
                if isinstance(samples, PartFailed):
                    continue  # another voice speaks; there is nothing here to say it with
                made += len(samples)
                yield samples
