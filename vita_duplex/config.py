"""All settings in one frozen object: from a YAML file, then the environment, then flags. Nothing else reads any."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vita_duplex.asr.openai import OpenAiTranscriptionConfig
from vita_duplex.asr.whisper import WhisperConfig
from vita_duplex.engine.duplex import DuplexConfig
from vita_duplex.engine.instances.remote import RemoteConfig
from vita_duplex.engine.instances.scripted import ScriptedReply
from vita_duplex.engine.instances.vita import VitaInstanceConfig
from vita_duplex.engine.instances.vllm_text import VllmTextConfig
from vita_duplex.tts.speech import SpeechConfig
from vita_duplex.tts.voices.command import CommandConfig
from vita_duplex.tts.voices.kokoro import KokoroConfig
from vita_duplex.tts.voices.openai import OpenAiSpeechConfig
from vita_duplex.tts.voices.tencent import TencentConfig
from vita_duplex.vad.endpoint import EndpointConfig

PREFIX = "VITA_DUPLEX_"
"""Environment: `VITA_DUPLEX_SERVER__PORT=9000` sets `server.port`."""


RENAMED = {
    "ears": "asr",
    "voice": "tts",
    "speech": "tts",
    "endpoint": "vad.endpoint",
    "vad.echo_guard": "vad.echo.guard",
}
"""Settings and sections that had other names."""


def default_cache() -> Path:
    """`vita-duplex` in the user's cache folder (XDG Base Directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vita-duplex"


class ServerConfig(BaseModel):
    """Where and for how many the server serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Loopback: browsers give a page on another address the microphone only over https."""
    port: int = Field(8000, ge=0, le=65535)
    session_logs: Path | None = None
    """Folder for one log per session: what it was told and decided, and its turns' records; no words and no audio.
    None: nothing is stored."""
    max_sessions: int = Field(64, ge=1)
    """More wait, or are refused with a typed error."""
    max_waiting: int = Field(16, ge=0)
    """Clients in the queue for a session. When it is full, further ones are refused."""
    grace_s: float = Field(15, ge=0)
    """Seconds that running turns have to finish in after SIGTERM."""
    tls_certificate: Path | None = None
    """PEM file with the certificate chain; with it the server speaks https only."""
    tls_key: Path | None = None
    """PEM file with the certificate's private key."""
    self_signed: bool = False
    """Make a certificate for this machine's names and addresses, so that browsers in the LAN give the microphone."""

    @model_validator(mode="after")
    def _certificate_and_key(self) -> "ServerConfig":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.self_signed and self.tls_certificate:
            raise ValueError("self_signed makes its own certificate; leave out tls_certificate")
        return self


class AccessConfig(BaseModel):
    """Who may come in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: dict[str, str] = Field(default_factory=dict)
    """Hashes of API keys by name, as `vita-duplex key NAME` prints them."""
    keys_file: Path | None = None
    """A YAML file with the same."""
    open: bool = False
    """Serve other machines without keys."""
    operators: tuple[str, ...] = ()
    """Names of the keys that may drain instances. On a server without keys that is not
    `open` whoever reaches it may: they are on this machine."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may connect, for example https://app.example; "*" for all. Pages of this server's own
    may, if it has keys or is reached by address."""


class LimitsConfig(BaseModel):
    """How much one client may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idle_s: float = Field(300, gt=0)
    """A session ends when nothing came from its client for so long."""
    session_s: float = Field(3600, gt=0)
    """The longest session; OpenAI's is as long."""
    audio_ahead_s: float = Field(60, gt=0)
    """Seconds of audio that may come faster than real time; more is dropped with an error."""
    key_sessions: int | None = Field(None, ge=1)
    """Sessions of one key at the same time."""
    key_minutes_per_day: float | None = Field(None, gt=0)
    """Minutes of sessions of one key in a day."""
    key_bytes_per_s: float = Field(8_000_000, ge=100_000)
    """Bytes a second from all clients of one key; who sends faster is slowed down. A session in base64 needs 64,000."""


class ObserveConfig(BaseModel):
    """What the operator sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    logs: Literal["text", "json"] = "text"
    traces: bool = False
    """OpenTelemetry spans, a trace per turn; where they go say the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT)."""


class EngineConfig(BaseModel):
    """Who answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["text", "vita", "remote", "scripted"] = "text"
    """`text`: ASR, a judge and a text model on vLLM · `vita`: a VITA checkpoint on vLLM, which hears and
    judges itself · `remote`: the same on vLLM servers of other nodes · `scripted`: no model."""
    instances: int = Field(1, ge=1, le=8)
    """Engines; `remote` has one per address. With one, both slots of every session sit on it."""
    cache: Path = Field(default_factory=default_cache)
    """Folder for models that have to be prepared."""
    text: VllmTextConfig = VllmTextConfig()
    vita: VitaInstanceConfig = VitaInstanceConfig()
    remote: RemoteConfig = RemoteConfig()
    scripted: tuple[ScriptedReply, ...] = Field((ScriptedReply(),), min_length=1)

    @property
    def count(self) -> int:
        """Instances."""
        return len(self.remote.urls) if self.kind == "remote" else self.instances

    @property
    def gpus(self) -> int:
        """GPUs that the instances take, where there are any."""
        per_instance = {"vita": self.vita.tensor_parallel_size, "text": 1}
        return self.instances * per_instance.get(self.kind, 0)

    @property
    def modalities(self) -> list[str]:
        """What its models take."""
        return ["text", "audio"] if self.kind == "text" else ["text", "audio", "image", "video"]

    @model_validator(mode="after")
    def _has_addresses(self) -> Self:
        if self.kind == "remote" and not self.remote.urls:
            raise ValueError("engine.kind remote wants at least one address in engine.remote.urls")
        return self


class EchoConfig(BaseModel):
    """How the assistant's own voice is kept out of the microphone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    guard: bool = False
    """Take the assistant's own voice out of the microphone, unless a client asks otherwise. For clients without an echo
    canceller; with headphones it takes speech away."""


class VadConfig(BaseModel):
    """Who hears that somebody speaks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["silero", "level"] = "silero"
    amplify: bool = False
    """Make quiet speech louder for Silero, by up to 12 dB. Of speech at −40 dBFS it then finds 98 % and not 93 %; on
    the set of `make overlaps` one more interruption of 68 was judged wrongly."""
    endpoint: EndpointConfig = EndpointConfig()
    echo: EchoConfig = EchoConfig()
    level_gate_db: float | None = Field(None, ge=3, le=40)
    """Speech into a reply counts when it gets as loud as the session's speaker less so many decibels, 10 for example:
    others in the room are further from the microphone. Learned from what was meant for us. Not with a microphone that
    makes everybody equally loud (automatic gain control). None: whoever speaks counts."""
    turn_end: Literal["smart-turn"] | None = None
    """The end-of-turn model: used with `vad.endpoint.hint`, and by clients that ask for `semantic_vad`. Takes 0.15 s of one
    core in each pause."""


class AsrConfig(BaseModel):
    """Who writes down what was said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["moonshine", "whisper", "openai"] | None = None
    """`moonshine`: English, on this machine · `whisper`: 99 languages, on this machine · `openai`: any server with
    OpenAI's /v1/audio/transcriptions. None: Moonshine for models that read only; models that hear go without, and
    their clients get no transcripts."""
    whisper: WhisperConfig = WhisperConfig()
    openai: OpenAiTranscriptionConfig = OpenAiTranscriptionConfig()


VoiceKind = Literal["hibari", "kokoro", "openai", "tencent", "command", "humming"]


class TtsConfig(SpeechConfig):
    """Who speaks."""

    kind: VoiceKind = "hibari"
    fallback: VoiceKind | None = None
    """Who speaks when the voice fails."""
    at_once: int = Field(1, ge=1, le=16)
    """Pieces that a voice on this machine speaks at the same time; whose sound is needed first comes first."""
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


class Config(BaseModel):
    """Everything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: ServerConfig = ServerConfig()
    access: AccessConfig = AccessConfig()
    limits: LimitsConfig = LimitsConfig()
    observe: ObserveConfig = ObserveConfig()
    engine: EngineConfig = EngineConfig()
    models: dict[str, EngineConfig] = {}
    """Further models on the same server, by the name that clients give in `?model=`; who gives none gets `engine`."""
    duplex: DuplexConfig = DuplexConfig()
    vad: VadConfig = VadConfig()
    asr: AsrConfig = AsrConfig()
    tts: TtsConfig = TtsConfig()

    @model_validator(mode="after")
    def _holds_last_long_enough(self) -> Self:
        """A hold that ends by itself must not end before the verdict about the longest utterance."""
        hinted = self.vad.endpoint.hint or self.vad.turn_end
        silence_ms = max(self.vad.endpoint.silence_ms, self.vad.endpoint.patient_ms if hinted else 0)
        wait_s = (silence_ms + self.duplex.verdict_deadline_ms) / 1000
        needed = self.vad.endpoint.max_utterance_s + wait_s
        if self.duplex.hold_limit_s < needed:
            raise ValueError(
                f"duplex.hold_limit_s must be at least {needed:g}: vad.endpoint.max_utterance_s, vad.endpoint.silence_ms and "
                "duplex.verdict_deadline_ms together"
            )
        return self

    @model_validator(mode="after")
    def _names_are_different(self) -> Self:
        if self.model_name in self.models:
            raise ValueError(f"models has a second {self.model_name!r}: that is what clients call the one of engine")
        return self

    @property
    def reads_only(self) -> bool:
        """Whether there is a model that needs ASR."""
        return any(engine.kind == "text" for engine in (self.engine, *self.models.values()))

    @property
    def model_name(self) -> str:
        """What the model of `engine` is called on the wire."""
        match self.engine.kind:
            case "text":
                return Path(self.engine.text.model).name
            case "vita":
                return Path(self.engine.vita.model).name
            case "remote":
                return self.engine.remote.model or "vita"
            case "scripted":
                return "scripted"


class ConfigError(Exception):
    """A setting is wrong; the message says which and what would be right."""


def load_config(path: Path | None, environment: Mapping[str, str] = os.environ, settings: Sequence[str] = ()) -> Config:
    """Read the file, then the environment, then `settings` ("section.key=value"). Errors: `ConfigError`."""
    values = read_yaml(path) if path else {}
    for name, text in sorted(environment.items()):
        if name.startswith(PREFIX):
            _set(values, name.removeprefix(PREFIX).lower().split("__"), text)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"{setting!r}: write it as section.key=value, for example server.port=9000")
        _set(values, key.split("."), text)
    _check_keys(Config, values, "")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:  # settings that do not go together
            raise ConfigError(str(first["ctx"]["error"])) from error
        where = ".".join(str(part) for part in first["loc"])
        # Of a whole section whose parts do not fit together; it is no help, and may hold a secret.
        got = "" if first["type"] == "value_error" else f" (got {first['input']!r})"
        raise ConfigError(f"{where}: {first['msg']}{got}") from error


_BOOL = "tag:yaml.org,2002:bool"


class _Yaml(yaml.SafeLoader):
    """YAML 1.2's booleans: `on` and `off` are words ("barge_in: off"), which YAML 1.1 reads as true and false."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - named and shared like this by PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Yaml.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a file. Errors: `ConfigError`."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Yaml) or {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the top must be sections such as `server:`")
    # A section whose lines are all comments has no value.
    return {name: {} if section is None else section for name, section in values.items()}


def _set(values: dict[str, Any], keys: list[str], text: str) -> None:
    """Set a value given as text; it is read as YAML, so that `off`, `3` and `[a, b]` mean what they look like."""
    *sections, last = keys
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{'.'.join(keys)}: {section} is a value, not a section")
    try:
        values[last] = yaml.load(text, _Yaml)
    except yaml.YAMLError as error:
        raise ConfigError(f"{'.'.join(keys)}: {text!r} is not YAML: {' '.join(str(error).split())}") from error


def _check_keys(model: type[BaseModel], values: Mapping[str, Any], path: str) -> None:
    """Name the first unknown key and the known one it was probably meant to be."""
    for key, value in values.items():
        if key not in model.model_fields:
            raise ConfigError(_unknown(str(key), model, path))
        annotation = model.model_fields[key].annotation
        for section in _sections(annotation):
            parts: list[tuple[str, Any]]
            if get_origin(annotation) is dict and isinstance(value, dict):
                parts = [(f"{path}{key}.{name}.", part) for name, part in value.items()]
            else:
                parts = [(f"{path}{key}.", part) for part in (value if isinstance(value, list) else [value])]
            for where, part in parts:
                if isinstance(part, dict):
                    _check_keys(section, part, where)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The model a field holds, directly or as the elements of a tuple."""
    candidates = (annotation, *get_args(annotation))
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _unknown(key: str, model: type[BaseModel], path: str) -> str:
    if new := RENAMED.get(path + key):
        return f"{path}{key} is no setting; did you mean {new}?"
    for name, field in (*Config.model_fields.items(), *((f"vad.{k}", f) for k, f in VadConfig.model_fields.items())):
        if any(key in section.model_fields for section in _sections(field.annotation)):
            return f"{path}{key} is no setting; did you mean {name}.{key}?"
    near = difflib.get_close_matches(key, model.model_fields, 1, 0.5)
    if near:
        return f"{path}{key} is no setting; did you mean {path}{near[0]}?"
    return f"{path}{key} is no setting; known here: {', '.join(model.model_fields)}"
