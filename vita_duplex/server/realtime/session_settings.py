"""What a client has set for its session: checked, kept, and shown as the reference shows it. Pure."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.duplex_settings import DuplexConfig, Thresholds
from vita_duplex.engine.events import BargeIn, SaidInto
from vita_duplex.engine.messages import Tools
from vita_duplex.engine.settings import ReplySettings
from vita_duplex.engine.truncation import RETAINED
from vita_duplex.server.audio.formats import DEFAULT, PCM_RATES, PCMA, PCMU, AudioFormat, pcm
from vita_duplex.server.errors import ClientError
from vita_duplex.server.realtime.audio_fields import Format, PcmFormat, SemanticVad, ServerVad, Transcription
from vita_duplex.server.realtime.client_events import (
    MaxTokens,
    OwnSettings,
    ResponseFields,
    Retention,
    SessionUpdateFields,
    decode_base64,
)
from vita_duplex.server.realtime.items import Json
from vita_duplex.server.realtime.tools import describe_choice, describe_tool, read_tools
from vita_duplex.server.voice_names import VoiceNames
from vita_duplex.vad.endpoint import EndpointConfig

EAGERNESS = {
    "low": {"silence_ms": 1000, "quick_ms": 600, "patient_ms": 4000},
    "high": {"silence_ms": 350, "quick_ms": 320, "patient_ms": 800},
}
"""`semantic_vad`: the silences that end an utterance; the server's own for `medium` and `auto`. `quick_ms` counts where
the server has an end-of-turn model, `patient_ms` also where the engine has an ASR; elsewhere the silence alone.
Below 300 ms people get cut off. OpenAI waits up to 8, 4 and 2 s."""


SHORTEST_MS = 64
"""Milliseconds of the shortest silence that ends an utterance: two windows of the VAD."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The effective settings of one session; the first five begin as the server's."""

    endpoint: EndpointConfig
    duplex: DuplexConfig
    voices: VoiceNames
    """To choose from."""
    voice: str
    echo_guard: bool | Literal["auto"] = "auto"
    turn_detection: ServerVad | SemanticVad | None = field(default_factory=lambda: ServerVad(type="server_vad"))
    transcription: Transcription | None = field(default_factory=Transcription)
    wire_in: AudioFormat = DEFAULT
    wire_out: AudioFormat = DEFAULT
    instructions: str = ""
    spoken: bool = True
    max_output_tokens: MaxTokens = "inf"
    tools: Tools = field(default_factory=Tools)
    can_call: bool = False
    """Whether the model can call tools."""
    retained: float | None = RETAINED
    """As `Query.retained`."""
    only_listens: bool = False
    """What is said is written down and not answered."""

    def updated(self, fields: SessionUpdateFields, server: Self, event_id: str | None) -> Self:
        """With what a client wants, less what `find_unsupported` names: stock clients send that by habit, and would
        lose their instructions with it. `server`: those without a client. Errors: `ClientError`."""
        settings = self if fields.type is None else replace(self, only_listens=fields.type == "transcription")
        settings = settings.offering(fields, "session.", event_id)
        if fields.instructions is not None:
            settings = replace(settings, instructions=fields.instructions)
        if fields.output_modalities is not None:
            settings = replace(settings, spoken="audio" in fields.output_modalities)
        if fields.max_output_tokens is not None:
            settings = replace(settings, max_output_tokens=fields.max_output_tokens)
        if fields.truncation is not None:
            settings = replace(settings, retained=_retained(fields.truncation))
        heard, said = (fields.audio.input, fields.audio.output) if fields.audio else (None, None)
        if heard and heard.format:
            settings = replace(settings, wire_in=read_wire(heard.format, "session.audio.input.format.rate", event_id))
        if said and said.format:
            settings = replace(settings, wire_out=read_wire(said.format, "session.audio.output.format.rate", event_id))
        if said and said.voice is not None:
            voice = self.voices.chosen(said.voice, "session.audio.output.voice", event_id)
            settings = replace(settings, voice=voice)
        if heard and "turn_detection" in heard.model_fields_set:
            settings = settings._detecting(heard.turn_detection, server)
        if heard and "transcription" in heard.model_fields_set:
            settings = replace(settings, transcription=heard.transcription)
        return settings._with_own(fields.vita) if fields.vita else settings

    def offering(self, fields: "Fields", path: str, event_id: str | None) -> Self:
        """With the tools that a client wants, if the model can call any. Errors: `ClientError`."""
        if not self.can_call:
            return self
        wanted = fields.tools, fields.tool_choice, fields.parallel_tool_calls
        return replace(self, tools=read_tools(*wanted, self.tools, path, event_id))

    def _with_own(self, wanted: OwnSettings) -> Self:
        changes = wanted.model_dump(include={"barge_in", "verdict_threshold"}, exclude_none=True)
        old = Thresholds() if "verdict_threshold" in changes else self.duplex.threshold  # which is for all situations
        own = wanted.threshold.model_dump(exclude_none=True) if wanted.threshold else {}
        changes["threshold"] = old.model_copy(update=own)
        echo_guard = self.echo_guard if wanted.echo_guard is None else wanted.echo_guard
        return replace(self, duplex=self.duplex.model_copy(update=changes), echo_guard=echo_guard)

    def _detecting(self, wanted: ServerVad | SemanticVad | None, server: Self) -> Self:
        match wanted:
            case None:
                return replace(self, turn_detection=None)
            case ServerVad():
                silence_ms = wanted.silence_duration_ms
                fields = {
                    "threshold": wanted.threshold,
                    "pre_roll_ms": wanted.prefix_padding_ms,
                    "silence_ms": None if silence_ms is None else max(SHORTEST_MS, silence_ms),
                    "hint": None if silence_ms is None else False,
                }
            case SemanticVad():
                fields = {"hint": True, **EAGERNESS.get(wanted.eagerness or "auto", {})}
        given = {name: value for name, value in fields.items() if value is not None}
        return replace(self, turn_detection=wanted, endpoint=server.endpoint.model_copy(update=given))

    @property
    def reply(self) -> ReplySettings:
        limit = self.max_output_tokens
        most = None if isinstance(limit, str) else limit
        return ReplySettings(self.instructions, self.spoken, most, self.voice, self.retained, tools=self.tools)

    @property
    def listening(self) -> EndpointConfig:
        """How the listener ends utterances. With turn detection off no hint lengthens the last one."""
        return self.endpoint if self.turn_detection else self.endpoint.model_copy(update={"hint": False})

    def duration(self, audio: bytes | str) -> float:
        """Seconds of audio in the session's input format, bytes or base64, by its size alone."""
        size = len(audio) if isinstance(audio, bytes) else len(audio) * 3 // 4
        return size / self.wire_in.width / self.wire_in.rate

    def decode(self, audio: bytes | str, event_id: str | None) -> Samples:
        """Audio in the session's input format, bytes or base64. Errors: `ClientError`."""
        data, width = audio if isinstance(audio, bytes) else decode_base64(audio, event_id), self.wire_in.width
        if len(data) % width:
            message = f"{len(data)} bytes are no whole number of {8 * width} bit samples"
            raise ClientError("invalid_audio", message, param="audio", event_id=event_id)
        return self.wire_in.decode(data)

    @property
    def language(self) -> str | None:
        """What the user speaks (ISO 639-1), if the client has said it: of "zh-CN" the first part."""
        said = self.transcription.language if self.transcription else None
        return said and said.replace("_", "-").split("-")[0].lower()

    @property
    def answers_speech(self) -> bool:
        detects = self.turn_detection is not None and self.turn_detection.create_response is not False
        return detects and not self.only_listens

    @property
    def idle_timeout_ms(self) -> int | None:
        """How long it may be silent after a reply before the next one; None: for ever."""
        detection = self.turn_detection
        return detection.idle_timeout_ms if isinstance(detection, ServerVad) and self.answers_speech else None

    @property
    def barge_in(self) -> BargeIn:
        """`off` if either way of saying so says so: stock clients send `interrupt_response: true` by habit."""
        off = self.turn_detection is not None and self.turn_detection.interrupt_response is False
        return "off" if off else self.duplex.barge_in

    def describe_own(self) -> Json:
        """What the reference does not know."""
        return {
            "barge_in": self.barge_in,
            "verdict_threshold": self.duplex.verdict_threshold,
            "threshold": {reply: self.duplex.threshold_in(reply) for reply in get_args(SaidInto)},
            "echo_guard": self.echo_guard,
            "tools": self.can_call,
        }

    def describe(self, model: str) -> Json:
        """As in `session.created` and `session.updated`."""
        heard = {
            "format": self.wire_in.describe(),
            "transcription": self.transcription and self.transcription.model_dump(exclude_none=True),
            "turn_detection": self._describe_detection(),
        }
        if self.only_listens:
            return {"type": "transcription", "object": "realtime.transcription_session", "audio": {"input": heard}}
        return {
            "type": "realtime",
            "model": model,
            "instructions": self.instructions,
            "output_modalities": ["audio"] if self.spoken else ["text"],
            "max_output_tokens": self.max_output_tokens,
            "tools": [describe_tool(tool) for tool in self.tools.tools],
            "tool_choice": describe_choice(self.tools) if self.can_call else "none",
            "truncation": self._describe_truncation(),
            "audio": {
                "input": heard,
                "output": {"format": self.wire_out.describe(), "voice": self.voice, "speed": 1.0},
            },
        }

    def _describe_truncation(self) -> Json | str:
        if self.retained is None:
            return "disabled"
        return "auto" if self.retained == RETAINED else {"type": "retention_ratio", "retention_ratio": self.retained}

    def _describe_detection(self) -> Json | None:
        if self.turn_detection is None:
            return None
        fields: Json = {
            "type": self.turn_detection.type,
            "create_response": self.answers_speech,
            "interrupt_response": self.barge_in != "off",
        }
        if self.only_listens:
            fields = {"type": self.turn_detection.type}
        if isinstance(self.turn_detection, SemanticVad):
            return {**fields, "eagerness": self.turn_detection.eagerness or "auto"}
        return {
            **fields,
            "threshold": self.endpoint.threshold,
            "prefix_padding_ms": self.endpoint.pre_roll_ms,
            "silence_duration_ms": self.endpoint.silence_ms,
            "idle_timeout_ms": self.turn_detection.idle_timeout_ms,
        }


Fields = SessionUpdateFields | ResponseFields


def find_unsupported(fields: Fields, path: str, event_id: str | None, *, can_call: bool) -> ClientError | None:
    """What is wanted that no model and no voice here can do, in one error, which names the first."""
    found: list[tuple[str, str]] = []
    if fields.tools and not can_call:
        found.append(("tools", "The model here cannot call tools."))
    if fields.tool_choice not in (None, "auto", "none") and not can_call:
        found.append(("tool_choice", "The model here cannot call tools; nothing can be required of it."))
    if fields.prompt is not None:
        found.append(("prompt", "There are no stored prompts here; send `instructions`."))
    if isinstance(fields, SessionUpdateFields) and fields.temperature is not None:
        found.append(("temperature", "A session has the engine's own temperature."))
    said = fields.audio.output if isinstance(fields, SessionUpdateFields) and fields.audio else None
    if said and said.speed not in (None, 1):
        found.append(("audio.output.speed", "The voice has one speed, 1.0."))
    if not found:
        return None
    message = " ".join(text for _, text in found)
    return ClientError("unsupported_value", message, param=f"{path}.{found[0][0]}", event_id=event_id)


def refuse_unsupported(fields: ResponseFields, event_id: str | None, *, can_call: bool) -> None:
    """Errors: `ClientError`, for an answer without what it wants would be a wrong one."""
    if error := find_unsupported(fields, "response", event_id, can_call=can_call):
        raise error


def _retained(wanted: Retention | str) -> float | None:
    if isinstance(wanted, Retention):
        return wanted.retention_ratio
    return RETAINED if wanted == "auto" else None


def read_wire(wanted: Format, param: str, event_id: str | None) -> AudioFormat:
    """Errors: `ClientError`."""
    if not isinstance(wanted, PcmFormat):
        return PCMU if wanted.type == "audio/pcmu" else PCMA
    if wanted.rate not in PCM_RATES:
        message = f"audio/pcm at {wanted.rate} Hz is not supported; use {' or '.join(map(str, PCM_RATES))} Hz."
        raise ClientError("unsupported_rate", message, param=param, event_id=event_id)
    return pcm(wanted.rate)
