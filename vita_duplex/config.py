"""All settings as one frozen object: sections and their defaults, which are those of a machine without GPU."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vita_duplex.asr.openai import OpenAiTranscriptionConfig
from vita_duplex.asr.whisper import WhisperConfig
from vita_duplex.engine.duplex_settings import DuplexConfig, DuplexSettings
from vita_duplex.engine.instances.openai_text import OpenAiTextConfig
from vita_duplex.engine.instances.remote import RemoteConfig
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.instances.vita import VitaInstanceConfig
from vita_duplex.engine.instances.vllm_engine import on_cpu
from vita_duplex.engine.instances.vllm_text import VllmTextConfig
from vita_duplex.engine.section import Section
from vita_duplex.tts.speech import SpeechConfig
from vita_duplex.tts.voices.command import CommandConfig
from vita_duplex.tts.voices.kokoro import KokoroConfig
from vita_duplex.tts.voices.openai import OpenAiSpeechConfig
from vita_duplex.tts.voices.tencent import TencentConfig
from vita_duplex.vad.endpoint import EndpointConfig

WHISPER_DEADLINE_MS = 4000
"""The shortest verdict deadline with Whisper, which hears an utterance for 2 s."""
LONGEST_SILENCE_S = 10.0
"""The longest silence that a setting or a client may want at the end of an utterance."""
SHARED_FIRST_LIMIT_S = 5.0
"""The shortest first limit where engines share cores: a busy neighbour delays a first token for seconds."""


class ConfigError(Exception):
    """A setting is wrong; the message says which and what would be right."""


def default_cache() -> Path:
    """`vita-duplex` in the user's cache folder (XDG Base Directory specification); a user without a home, as containers
    have with any uid, gets one among the temporary files."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vita-duplex"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"vita-duplex-{os.getuid()}"


class ServerConfig(Section):
    """Where the server listens, and for how many."""

    host: str = "127.0.0.1"
    """Address to listen on. Browsers give a page on another address the microphone only over https."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    root_path: str = Field("", pattern=r"^(/[\w.~-]+)*$")
    """Path under which a proxy serves everything, such as /vita. The proxy may take it off or leave it."""
    session_logs: Path | None = None
    """Folder for one log per session, without words and audio. None stores nothing."""
    max_sessions: int = Field(64, ge=1)
    """Sessions at the same time. Further clients wait, or are refused."""
    max_waiting: int = Field(16, ge=0)
    """Clients that may wait for a session. Further ones are refused."""
    grace_s: float = Field(15, ge=0)
    """Seconds that running turns have after SIGTERM."""
    tls_certificate: Path | None = None
    """PEM file with the certificate chain. With it the server speaks https only."""
    tls_key: Path | None = None
    """PEM file with the certificate's private key."""
    self_signed: bool = False
    """Makes a certificate for this machine's names and addresses, so that browsers in the LAN give the microphone."""

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.self_signed and self.tls_certificate:
            raise ValueError("self_signed makes its own certificate; leave out tls_certificate")
        return self


class AccessConfig(Section):
    """Who may come in."""

    keys: dict[str, str] = Field(default_factory=dict)
    """Hashes of API keys by name, as `vita-duplex key NAME` prints them."""
    keys_file: Path | None = None
    """YAML file with further hashes by name."""
    open: bool = False
    """Serves other machines without keys."""
    operators: tuple[str, ...] = ()
    """Names of the keys that may drain instances. Without keys, clients on this machine may."""
    origins: tuple[Annotated[str, Field(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[^/]+/?)$")], ...] = ()
    """Origins of web pages that may connect and read answers (CORS), besides the server's own, such as
    https://app.example; "*" allows all. Without keys the server answers only under addresses and the names of these
    origins."""
    proxies: tuple[str, ...] = ("127.0.0.1",)
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""


class LimitsConfig(Section):
    """How much one client may use."""

    idle_s: float = Field(300, gt=0)
    """Seconds without anything from the client after which its session ends."""
    session_s: float = Field(3600, gt=0)
    """Seconds of the longest session; OpenAI's is as long."""
    audio_ahead_s: float = Field(60, gt=0)
    """Seconds of audio that may come faster than real time. More is dropped with an error."""
    key_sessions: int | None = Field(None, ge=1)
    """Sessions of one key at the same time. None sets no limit."""
    key_minutes_per_day: float | None = Field(None, ge=1)
    """Minutes of sessions of one key in a day. None sets no limit."""
    key_bytes_per_s: float = Field(8_000_000, ge=100_000)
    """Bytes a second from all clients of one key; a session in base64 sends 64,000. A faster client is read more
    slowly."""
    address_sockets: int | None = Field(None, ge=1)
    """WebSockets of one network address at the same time; of IPv6 the first 64 bits count. None sets no limit."""
    address_tries_per_minute: float | None = Field(None, ge=1)
    """WebSocket handshakes and refused requests of one address in a minute. None sets no limit."""


class TelephonyConfig(Section):
    """How calls of telephones come in; docs/telephony.md has what to set at the other end."""

    public_url: str | None = Field(None, pattern="^wss?://")
    """Address under which Twilio reaches this server, such as wss://voice.example. None takes the host it asks for."""
    twilio_token: SecretStr = SecretStr("")
    """Auth token of the Twilio account, better in the environment than in a file. With it every call has to be
    signed."""
    audiosocket: str | None = Field(None, pattern=r"^(\S+):(\d+)$")
    """Address and port on which Asterisk's AudioSocket is served, such as 127.0.0.1:9092. None serves none."""

    @property
    def audiosocket_host(self) -> str | None:
        return self.audiosocket and self.audiosocket.rpartition(":")[0].strip("[]")


class IceServer(Section):
    """A STUN or TURN server."""

    urls: tuple[str, ...] = Field(min_length=1)
    """Such as stun:stun.example:3478 or turn:turn.example:3478?transport=udp."""
    username: str | None = None
    """For TURN."""
    credential: SecretStr = SecretStr("")
    """For TURN."""


class WebRtcConfig(Section):
    """How WebRTC reaches clients; docs/webrtc.md has what a network needs."""

    ice_servers: tuple[IceServer, ...] = ()
    """STUN and TURN servers that the server itself uses. None are needed where it has a public address."""
    ports: str | None = Field(None, pattern=r"^\d{1,5}-\d{1,5}$")
    """UDP ports for media, such as 40000-40100: one for each session and address. None takes any that is free."""

    @model_validator(mode="after")
    def _ports_go_up(self) -> Self:
        first, last = self.port_range or (1, 1)
        if not 1 <= first <= last <= 65535:
            raise ValueError("ports must be a range such as 40000-40100")
        return self

    @property
    def port_range(self) -> tuple[int, int] | None:
        if self.ports is None:
            return None
        first, last = self.ports.split("-")
        return int(first), int(last)


class ObserveConfig(Section):
    """What the operator sees."""

    logs: Literal["text", "json"] = "text"
    """Form of the log lines."""
    traces: bool = False
    """Sends OpenTelemetry spans, one trace per turn. The standard variables (OTEL_EXPORTER_OTLP_ENDPOINT) say where."""


def name_of(model: str) -> str:
    """What clients call a folder or a hub's model: its last part, also of `.` and `~/models/x/`."""
    return os.path.basename(os.path.abspath(os.path.expanduser(model)))


class EngineConfig(Section):
    """Which model answers."""

    kind: Literal["text", "openai", "vita", "remote", "scripted"] = "text"
    """`text`: ASR, a judge and a text model on vLLM · `openai`: the same, the text model behind any server that has
    OpenAI's /v1/chat/completions · `vita`: a VITA checkpoint on vLLM · `remote`: VITA on other nodes' vLLM servers ·
    `scripted`: no model."""
    instances: int = Field(1, ge=1, le=8)
    """Engines on this machine; `remote` has one per address. With one, both slots of every session sit on it."""
    cache: Path = Field(default_factory=default_cache)
    """Folder for models that have to be prepared."""
    text: VllmTextConfig = VllmTextConfig()
    openai: OpenAiTextConfig = OpenAiTextConfig()
    vita: VitaInstanceConfig = VitaInstanceConfig()
    remote: RemoteConfig = RemoteConfig()
    scripted: tuple[ScriptedReply, ...] = Field((ScriptedReply(),), min_length=1)
    """Replies of `scripted`, one per utterance, over and over."""

    @property
    def count(self) -> int:
        """Instances."""
        return len(self.remote.urls) if self.kind == "remote" else 1 if self.kind == "openai" else self.instances

    @property
    def reads(self) -> bool:
        """Whether its model takes text only, and needs ASR."""
        return self.kind in ("text", "openai")

    @property
    def gpus(self) -> int:
        """GPUs that the instances take, where there are any."""
        per_instance = {"vita": self.vita.tensor_parallel_size, "text": 1}
        return self.instances * per_instance.get(self.kind, 0)

    @property
    def modalities(self) -> list[str]:
        """What its models take."""
        return ["text", "audio"] if self.reads else ["text", "audio", "image", "video"]

    @property
    def model_name(self) -> str:
        """What the model is called on the wire."""
        match self.kind:
            case "text":
                return name_of(self.text.model)
            case "openai":
                return self.openai.model or "openai"
            case "vita":
                return name_of(self.vita.model)
            case "remote":
                return self.remote.model or "vita"
            case "scripted":
                return "scripted"

    @model_validator(mode="after")
    def _has_addresses(self) -> Self:
        if self.kind == "remote" and bool(self.remote.urls) == bool(self.remote.service):
            raise ValueError(
                "engine.kind remote wants at least one address in engine.remote.urls, or engine.remote.service"
            )
        return self


class EchoConfig(Section):
    """How the assistant's own voice is kept out of the microphone."""

    guard: bool | Literal["auto"] = "auto"
    """Takes the assistant's own voice out of the microphone. `auto`: only where the server hears itself, for with
    headphones, or behind a client's own canceller, it takes speech away."""


class VadConfig(Section):
    """Which detector hears speech."""

    kind: Literal["silero", "level"] = "silero"
    """`silero`: the Silero VAD model · `level`: whatever is loud, for tests."""
    endpoint: EndpointConfig = EndpointConfig()
    echo: EchoConfig = EchoConfig()
    level_gate_db: float | None = Field(None, ge=3, le=40)
    """Decibels below the session's speaker down to which speech into a reply counts, such as 10. None lets everybody
    count; so should microphones with automatic gain control."""
    turn_end: Literal["smart-turn"] | None = None
    """End-of-turn model, used with `vad.endpoint.hint` and by clients that ask for `semantic_vad`. It takes 0.15 s of
    one core in each pause."""


class AsrConfig(Section):
    """Which ASR writes down what was said."""

    kind: Literal["moonshine", "whisper", "openai"] | None = None
    """`moonshine`: English, on this machine · `whisper`: 99 languages, on this machine · `openai`: any server with
    OpenAI's /v1/audio/transcriptions. None is Moonshine for text models, and no transcripts for VITA."""
    whisper: WhisperConfig = WhisperConfig()
    openai: OpenAiTranscriptionConfig = OpenAiTranscriptionConfig()


VoiceKind = Literal["hibari", "kokoro", "openai", "tencent", "command", "humming"]


class TtsConfig(SpeechConfig):
    """Which voice speaks."""

    kind: VoiceKind = "hibari"
    """Voice; `vita-duplex voices` lists them."""
    fallback: VoiceKind | None = None
    """Voice that speaks when the first one fails."""
    at_once: int = Field(1, ge=1, le=16)
    """Pieces that a voice on this machine speaks at the same time."""
    kokoro: KokoroConfig = KokoroConfig()
    openai: OpenAiSpeechConfig = OpenAiSpeechConfig()
    tencent: TencentConfig = TencentConfig()
    command: CommandConfig = CommandConfig()

    @property
    def name(self) -> str:
        """What the voice is called on the wire; where there are several, the default."""
        match self.kind:
            case "kokoro":
                return self.kokoro.voice
            case "openai":
                return self.openai.voice
            case "tencent":
                return str(self.tencent.voice_type)
            case _:
                return self.kind


class Config(BaseSettings, Section):
    """Everything. Made by hand it reads no environment; `settings.load_config` says where values come from."""

    model_config = SettingsConfigDict(case_sensitive=True)

    server: ServerConfig = ServerConfig()
    access: AccessConfig = AccessConfig()
    limits: LimitsConfig = LimitsConfig()
    telephony: TelephonyConfig = TelephonyConfig()
    webrtc: WebRtcConfig = WebRtcConfig()
    observe: ObserveConfig = ObserveConfig()
    engine: EngineConfig = EngineConfig()
    models: dict[str, EngineConfig] = {}
    """Further models on the same server, by the name that clients give in `?model=`. Each has the keys of `engine`."""
    duplex: DuplexSettings = DuplexSettings()
    vad: VadConfig = VadConfig()
    asr: AsrConfig = AsrConfig()
    tts: TtsConfig = TtsConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="after")
    def _names_are_different(self) -> Self:
        if self.model_name in self.models:
            raise ValueError(f"models has a second {self.model_name!r}: that is what clients call the one of engine")
        return self

    @model_validator(mode="after")
    def _verdicts_wait_for_whisper(self) -> Self:
        if self.reads_only and self.asr.kind == "whisper" and self.duplex.verdict_deadline_ms < WHISPER_DEADLINE_MS:
            raise ValueError(
                f"duplex.verdict_deadline_ms must be at least {WHISPER_DEADLINE_MS} with asr.kind whisper, which hears "
                "an utterance for 2 s"
            )
        return self

    @model_validator(mode="after")
    def _engines_on_the_same_cores_are_waited_for(self) -> Self:
        texts = sum(engine.count for engine in self.engines.values() if engine.kind == "text")
        if texts > 1 and self.duplex.first_limit_s < SHARED_FIRST_LIMIT_S and on_cpu():
            raise ValueError(
                f"duplex.first_limit_s must be at least {SHARED_FIRST_LIMIT_S:g} with {texts} engines on the same cores"
            )
        return self

    @property
    def deciding(self) -> DuplexConfig:
        """What the core goes by: a hold lasts until the verdict about the longest utterance must have come."""
        longest_s = self.vad.endpoint.max_utterance_s + LONGEST_SILENCE_S + self.duplex.verdict_deadline_ms / 1000
        return DuplexConfig(**self.duplex.model_dump(), hold_limit_s=longest_s)

    @property
    def engines(self) -> dict[str, EngineConfig]:
        """The engines of all models, by the names that clients know; the first is the default."""
        return {self.model_name: self.engine, **self.models}

    @property
    def reads_only(self) -> bool:
        """Whether there is a model that needs ASR."""
        return any(engine.reads for engine in self.engines.values())

    @property
    def model_name(self) -> str:
        """What the model of `engine` is called on the wire."""
        return self.engine.model_name
