"""ASR behind an OpenAI-compatible `POST /v1/audio/transcriptions` (OpenAI API reference, "Create transcription").

OpenAI's own service, or any server with that address; vLLM serves Whisper like this.
"""

from pydantic import SecretStr

from vita_duplex.asr.local import portions
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.joining import joined
from vita_duplex.engine.ports import PartFailed, Transcript
from vita_duplex.engine.section import Section
from vita_duplex.engine.wav import wav

TIMEOUT_S = 20.0
"""Without a byte for so long it has failed; a whole utterance is heard before the first one comes."""


class OpenAiTranscriptionConfig(Section):
    """Which server writes down what was said."""

    url: str = "https://api.openai.com/v1"
    """Address of the API, with `/v1`."""
    api_key: SecretStr = SecretStr("")
    """API key. Better in the environment than in a file."""
    model: str = "gpt-4o-mini-transcribe"
    """Name of the model there."""


class OpenAiTranscription:
    """Each utterance is one request, of a WAV file with 16 bits at 16 kHz; cancelling closes its connection.

    The answer has no probabilities: what it heard counts as certain.
    """

    def __init__(self, config: OpenAiTranscriptionConfig) -> None:
        import httpx2

        self._config = config
        key = config.api_key.get_secret_value()
        self._client = httpx2.AsyncClient(
            base_url=config.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(TIMEOUT_S, connect=3.0),
        )
        self._failures: tuple[type[Exception], ...] = (httpx2.HTTPError, httpx2.InvalidURL)

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        texts = [await self._transcribe(portion, language) for portion in portions(samples)]
        return Transcript(joined(texts))

    async def _transcribe(self, samples: Samples, language: str | None) -> str:
        wish = {"model": self._config.model, "response_format": "json"}
        if language:
            wish["language"] = language
        file = ("utterance.wav", wav(samples, "PCM_16"), "audio/wav")
        try:
            answer = await self._client.post("/audio/transcriptions", data=wish, files={"file": file})
            if answer.status_code != 200:
                # The message of the server may quote the words.
                raise PartFailed("asr", f"the transcription server refuses: {answer.status_code}")
            text = answer.json()["text"]
        except self._failures as error:
            raise PartFailed("asr", f"the transcription server failed: {type(error).__name__}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise PartFailed("asr", "the transcription server answers with something else than a transcript") from error
        if not isinstance(text, str):
            raise PartFailed("asr", "the transcription server answers with something else than a transcript")
        return text.strip()
