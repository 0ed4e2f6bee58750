"""A voice behind an OpenAI-compatible `POST /v1/audio/speech`, streamed as PCM (OpenAI API reference, "Create speech").

The documented format `pcm` is 24 kHz, 16 bits, mono; servers with another rate name theirs in the settings.
"""

from collections.abc import AsyncGenerator
from copy import copy
from typing import Any, Self

from pydantic import Field, SecretStr

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.section import Section
from vita_duplex.tts.voices.pcm import Pcm16

TIMEOUT_S = 10.0
"""Without a byte for so long the piece has failed."""


class OpenAiSpeechConfig(Section):
    """Which server speaks, and with which voice."""

    url: str = "https://api.openai.com/v1"
    """Address of the API, with `/v1`."""
    api_key: SecretStr = SecretStr("")
    """API key. Better in the environment than in a file."""
    model: str = "gpt-4o-mini-tts"
    """Name of the model there."""
    voice: str = "alloy"
    """Voice that speaks."""
    voices: tuple[str, ...] = ()
    """Further voices that clients may choose."""
    rate: int = Field(24_000, ge=8_000, le=48_000)
    """Samples per second of its `pcm`."""


class OpenAiSpeech:
    """Each piece of text is one request; closing the iterator closes its connection."""

    def __init__(self, config: OpenAiSpeechConfig) -> None:
        import httpx2

        self.rate = config.rate
        self._config = config
        key = config.api_key.get_secret_value()
        self._client = httpx2.AsyncClient(
            base_url=config.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(TIMEOUT_S, connect=3.0),
        )
        self._failures: tuple[type[Exception], ...] = (httpx2.HTTPError, httpx2.InvalidURL)

    def speaking_as(self, voice: str) -> Self:
        """Another of the server's voices, over the same connections."""
        other = copy(self)
        other._config = self._config.model_copy(update={"voice": voice})
        return other

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        if not text.strip():
            return
        config, decoder = self._config, Pcm16()
        wish = {"model": config.model, "voice": config.voice, "input": text, "response_format": "pcm"}
        try:
            async with self._client.stream("POST", "/audio/speech", json=wish) as answer:
                if answer.status_code != 200:
                    reason = _reason(answer.status_code, await answer.aread())
                    raise PartFailed("tts", f"the speech server refuses: {reason}")
                async for portion in answer.aiter_bytes():
                    samples = decoder.push(portion)
                    if len(samples):
                        yield samples
        except self._failures as error:
            raise PartFailed("tts", f"the speech server failed: {type(error).__name__}") from error


def _reason(status: int, body: bytes) -> str:
    """Status and error code. Not the message: servers quote what they were asked to say, which is in no log."""
    import json

    try:
        error: Any = json.loads(body)["error"]
        return f"{status} {error.get('code') or error.get('type') or ''}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(status)
