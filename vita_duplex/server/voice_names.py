"""What the voices are called that a client may choose from. Pure."""

from dataclasses import dataclass

from vita_duplex.server.errors import ClientError

BY_HABIT = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
"""OpenAI's own (`openai/types/audio/speech_create_params.py`): stock clients name one of them unasked."""


@dataclass(frozen=True, slots=True)
class VoiceNames:
    """The voices of a server. They have one rate, so that a session may change from one to another."""

    all: tuple[str, ...]

    @property
    def default(self) -> str:
        return self.all[0]

    def chosen(self, wanted: str, param: str, event_id: str | None = None) -> str:
        """The voice that is meant. Errors: `ClientError` if there is no such voice, with those that there are."""
        if wanted in self.all:
            return wanted
        if wanted in BY_HABIT:
            return self.default
        message = f"There is no such voice; choose one of {', '.join(self.all)}."
        raise ClientError("invalid_value", message, param=param, event_id=event_id)
