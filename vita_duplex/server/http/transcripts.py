"""What was said in a recording, in the forms of OpenAI's `/v1/audio/transcriptions`. Pure."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from vita_duplex.engine.joining import joined

Form = Literal["json", "text", "srt", "verbose_json", "vtt"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One utterance; times in seconds since the beginning of the recording."""

    start: float
    end: float
    text: str
    log_probability: float
    """Mean of its tokens, natural."""


@dataclass(slots=True)
class Transcription:
    """A recording, as far as it has been written down."""

    language: str | None = None
    """As the client said it (ISO 639-1)."""
    seconds: float = 0.0
    segments: list[Segment] = field(default_factory=list)

    @property
    def text(self) -> str:
        return joined(segment.text for segment in self.segments)

    def add(self, segment: Segment) -> str:
        """The text by which the whole has grown."""
        before = len(self.text)
        self.segments.append(segment)
        return self.text[before:]

    @property
    def usage(self) -> dict[str, Any]:
        return {"type": "duration", "seconds": round(self.seconds, 2)}


def text(transcription: Transcription) -> str:
    return f"{transcription.text}\n"


def srt(transcription: Transcription) -> str:
    """SubRip: numbered, with a comma before the milliseconds."""
    entries = enumerate(transcription.segments, 1)
    return "".join(f"{n}\n{_times(segment, ',')}\n{segment.text}\n\n" for n, segment in entries)


def vtt(transcription: Transcription) -> str:
    """WebVTT (W3C), with a point before the milliseconds."""
    return "WEBVTT\n\n" + "".join(f"{_times(segment, '.')}\n{segment.text}\n\n" for segment in transcription.segments)


PLAIN: dict[Form, Callable[[Transcription], str]] = {"text": text, "srt": srt, "vtt": vtt}
"""The forms that are no JSON."""


def short(transcription: Transcription) -> dict[str, Any]:
    """`json`."""
    return {"text": transcription.text, "usage": transcription.usage}


def verbose(transcription: Transcription) -> dict[str, Any]:
    """`verbose_json`. What no ASR here tells has the value that says nothing: tokens, the probability of no speech."""
    return {
        "task": "transcribe",
        "language": transcription.language or "und",  # ISO 639-2: undetermined
        "duration": round(transcription.seconds, 2),
        "text": transcription.text,
        "segments": [_segment(number, segment) for number, segment in enumerate(transcription.segments)],
        "usage": transcription.usage,
    }


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    data = segment.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 2),
        "end": round(segment.end, 2),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.log_probability,
        "compression_ratio": len(data) / len(zlib.compress(data)),
        "no_speech_prob": 0.0,
    }


def _times(segment: Segment, point: str) -> str:
    return f"{_time(segment.start, point)} --> {_time(segment.end, point)}"


def _time(seconds: float, point: str) -> str:
    whole, ms = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{ms:03}"
