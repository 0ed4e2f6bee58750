"""Tencent Cloud's `TextToVoice`, the voice of the original VITA demo, through the official SDK (extra `tencent`).

The SDK signs with TC3-HMAC-SHA256 (signature v3). One request gives all of a piece's audio at once.
"""

import asyncio
import base64
import binascii
import uuid
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any, Self

from pydantic import Field, SecretStr

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.section import Section
from vita_duplex.tts.text.sentences import cut
from vita_duplex.tts.voices.pcm import Pcm16

CONCURRENCY = 20
"""Requests at a time that Tencent allows by default (API documentation of TextToVoice, 2019-08-23)."""
TIMEOUT_S = 10
ADDRESS, REGION, CHINESE = "https://tts.tencentcloudapi.com", "ap-guangzhou", 1
"""As the original demo asked, with the language that its voices speak first."""
LONGEST_CHINESE = 150
LONGEST_ENGLISH = 500
"""Characters of one request (the same documentation)."""


class TencentConfig(Section):
    """Whose account at Tencent Cloud, and which voice. The defaults are the original demo's."""

    secret_id: SecretStr = SecretStr("")
    """SecretId of the account. Better in the environment than in a file."""
    secret_key: SecretStr = SecretStr("")
    """SecretKey of the account. Better in the environment than in a file."""
    voice_type: int = 301009
    """Number of the voice that speaks."""
    voices: tuple[int, ...] = ()
    """Numbers of further voices that clients may choose."""
    rate: int = Field(16_000, ge=8_000, le=24_000)
    """Samples per second: 8000, 16000 or 24000."""


class TencentVoice:
    """Each piece of text is one request. The SDK blocks: a cancelled one ends unheard in its thread."""

    def __init__(self, config: TencentConfig, address: str = ADDRESS) -> None:
        """Errors: `PartFailed` without the SDK or without keys."""
        try:
            from tencentcloud.common.credential import Credential
            from tencentcloud.common.profile.client_profile import ClientProfile
            from tencentcloud.common.profile.http_profile import HttpProfile
            from tencentcloud.tts.v20190823.tts_client import TtsClient
        except ImportError as error:
            raise PartFailed(
                "tts", "tencentcloud-sdk-python-tts is not installed; install the extra [tencent]"
            ) from error
        secret_id, secret_key = config.secret_id.get_secret_value(), config.secret_key.get_secret_value()
        if not secret_id or not secret_key:
            raise PartFailed("tts", "tts.tencent.secret_id and secret_key are needed")
        scheme, _, host = address.rpartition("://")
        http = HttpProfile(protocol=scheme or "https", endpoint=host, reqTimeout=TIMEOUT_S)
        credential = Credential(secret_id, secret_key)
        self.rate: int = config.rate
        self._config = config
        self._client: Any = TtsClient(credential, REGION, ClientProfile(httpProfile=http))
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="tencent")

    def speaking_as(self, voice_type: int) -> Self:
        """Another voice of the same account, which allows no more requests at a time for it."""
        other = copy(self)
        other._config = self._config.model_copy(update={"voice_type": voice_type})
        return other

    async def synthesise(self, text: str) -> AsyncGenerator[Samples]:
        loop = asyncio.get_running_loop()
        longest = LONGEST_ENGLISH if text.isascii() else LONGEST_CHINESE
        for part in cut(text, longest):
            samples = await loop.run_in_executor(self._threads, self._ask, part)
            if len(samples):
                yield samples

    def _ask(self, text: str) -> Samples:
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
        from tencentcloud.tts.v20190823.models import TextToVoiceRequest

        config, request = self._config, TextToVoiceRequest()
        request.Text = text
        request.SessionId = str(uuid.uuid4())
        request.Volume, request.Speed, request.ProjectId, request.ModelType = 1, 0, 0, 1
        request.VoiceType, request.PrimaryLanguage = config.voice_type, CHINESE
        request.SampleRate, request.Codec = config.rate, "pcm"
        try:
            audio = base64.b64decode(self._client.TextToVoice(request).Audio or "", validate=True)
        except TencentCloudSDKException as error:
            # The code, not the message, which may quote what was to be said.
            raise PartFailed("tts", f"Tencent Cloud refuses: {error.get_code()}") from error
        except (binascii.Error, ValueError) as error:
            raise PartFailed("tts", "Tencent Cloud sent audio that is none") from error
        return Pcm16().push(audio)
