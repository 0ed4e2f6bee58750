"""Settings as the beta of the reference named them, in the names of today. Pure.

Reference: `openai/types/beta/realtime/session_update_event.py` and `response_create_event.py` of the `openai` package.
"""

from typing import Any

FORMATS = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
NAMES = {
    "modalities": ("output_modalities",),
    "max_response_output_tokens": ("max_output_tokens",),
    "input_audio_format": ("audio", "input", "format"),
    "input_audio_transcription": ("audio", "input", "transcription"),
    "input_audio_noise_reduction": ("audio", "input", "noise_reduction"),
    "turn_detection": ("audio", "input", "turn_detection"),
    "output_audio_format": ("audio", "output", "format"),
    "voice": ("audio", "output", "voice"),
    "speed": ("audio", "output", "speed"),
}


def translated(fields: object) -> object:
    """The settings with the beta's names in their place, unless that is taken; other settings as they are."""
    if not isinstance(fields, dict):
        return fields
    settings: dict[Any, Any] = {name: value for name, value in fields.items() if name not in NAMES}
    for name, path in NAMES.items():
        if name in fields:
            _put(settings, path, fields[name])
    return settings


def translated_format(value: object) -> object:
    return FORMATS.get(value, value) if isinstance(value, str) else value


def _put(settings: dict[Any, Any], path: tuple[str, ...], value: object) -> None:
    """Put a value where a path leads, in copies of what lies on the way; nothing if something else is there."""
    *way, last = path
    for name in way:
        inner = settings.get(name)
        if inner is not None and not isinstance(inner, dict):
            return
        settings[name] = settings = dict(inner or {})
    settings.setdefault(last, value)
