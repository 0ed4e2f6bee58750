"""How providers of telephony put a call into the messages of a WebSocket, as one table. Pure.

References: Twilio's "Media Streams: WebSocket messages"; Telnyx' "Media streaming over WebSockets"; Plivo's "Audio
streaming". All three send and take G.711 µ-law at 8 kHz in base64.
"""

import json
from dataclasses import dataclass
from typing import Any

from vita_duplex.server.base64_text import unbase64
from vita_duplex.server.errors import ClientError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """The call begins."""

    stream: str
    call: str
    """The provider's name for the call."""
    parameters: dict[str, str]
    """What the application that answers the telephone wants said along."""


@dataclass(frozen=True, slots=True)
class Media:
    """Audio of the caller, in G.711 µ-law."""

    chunk: int
    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """All that was sent before the mark of this name was played, or cleared."""

    name: str


@dataclass(frozen=True, slots=True)
class Digit:
    """A key of the telephone was pressed: 0-9, *, # or A-D."""

    digit: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The call, or its stream, is over."""


Message = Start | Media | Mark | Digit | Stop


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the providers differ."""

    stream_field: str
    call_field: str
    parameters_field: str
    media_event: str = "media"
    media_fields: tuple[tuple[str, object], ...] = ()
    clear_event: str = "clear"
    mark_event: str = "mark"
    played_event: str = "mark"

    def media(self, stream: str, audio: str) -> Json:
        return {
            "event": self.media_event,
            self.stream_field: stream,
            "media": {**dict(self.media_fields), "payload": audio},
        }

    def mark(self, stream: str, name: str) -> Json:
        named: Json = {"mark": {"name": name}} if self.mark_event == "mark" else {"name": name}
        return {"event": self.mark_event, self.stream_field: stream, **named}

    def clear(self, stream: str) -> Json:
        return {"event": self.clear_event, self.stream_field: stream}

    def read(self, text: str) -> Message | None:
        """None: nothing that matters here. Errors: `ClientError`."""
        try:
            message = json.loads(text)
            event = message["event"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ClientError("invalid_json", "A message of a call is JSON with an `event`.") from error
        try:
            return self._read(event, message)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ClientError("invalid_value", f"The message {str(event)[:40]!r} is not as it should be.") from error

    def _read(self, event: object, message: Json) -> Message | None:
        if event == self.played_event:
            return Mark(str(message["mark"]["name"] if "mark" in message else message["name"]))
        match event:
            case "start":
                return self._read_start(message)
            case "media":
                media = message["media"]
                if media.get("track") not in (None, "inbound"):
                    return None  # what we said ourselves
                return Media(int(media["chunk"]), unbase64(media["payload"]))
            case "dtmf":
                return Digit(_digit(str(message["dtmf"]["digit"])))
            case "stop":
                return Stop()
            case _:
                return None

    def _read_start(self, message: Json) -> Start:
        start = message["start"]
        stream = message.get(self.stream_field) or start[self.stream_field]
        given = start.get(self.parameters_field) or message.get(self.parameters_field) or {}
        given = json.loads(given) if isinstance(given, str) else given
        parameters = {str(name).removeprefix("X-PH-"): str(value) for name, value in given.items()}
        return Start(str(stream), str(start[self.call_field]), parameters)


def _digit(text: str) -> str:
    if len(text) != 1 or text not in "0123456789*#ABCD":
        raise ValueError(text)
    return text


DIALECTS = {
    "twilio": Dialect("streamSid", "callSid", "customParameters"),
    "telnyx": Dialect("stream_id", "call_control_id", "custom_parameters"),
    "plivo": Dialect(
        "streamId",
        "callId",
        "extra_headers",  # each name with X-PH- before it
        media_event="playAudio",
        media_fields=(("contentType", "audio/x-mulaw"), ("sampleRate", 8000)),
        clear_event="clearAudio",
        mark_event="checkpoint",
        played_event="playedStream",
    ),
}
"""By the last part of the endpoint's address."""
