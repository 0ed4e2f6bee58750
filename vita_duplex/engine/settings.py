"""What a client sets for its session."""

import asyncio
from dataclasses import dataclass, field

from vita_duplex.engine.events import SettingsChanged
from vita_duplex.engine.messages import Message, Pixels, Tools
from vita_duplex.engine.truncation import RETAINED


@dataclass(frozen=True, slots=True)
class ReplySettings:
    """How a reply is made."""

    instructions: str = ""
    spoken: bool = True
    max_tokens: int | None = None
    """Text deltas, each of which is a token or a little more; None: the instance's own limit, 0: only the verdict."""
    voice: str | None = None
    """By name; None: the default."""
    retained: float | None = RETAINED
    """As `Query.retained`."""
    history: tuple[Message, ...] | None = None
    """The dialogue to be answered; None: the session's."""
    told: asyncio.Queue[str | None] | None = None
    """The client gives the reply by itself: its words, and None for its end. None: an instance gives it."""
    tools: Tools = field(default_factory=Tools)


@dataclass(frozen=True, slots=True)
class Configure:
    """All settings of a session; they count for whatever enters its queue after them."""

    reply: ReplySettings = ReplySettings()
    frames: tuple[Pixels, ...] = ()
    """The images that every request is shown."""
    answers_speech: bool = True
    """False: speech enters the dialogue without a verdict, and waits for `answer_dialogue`."""
    only_listens: bool = False
    """Speech is written down at once, and enters no dialogue."""
    transcribes: bool = True
    """Whether the client wants the words of accepted utterances."""
    language: str | None = None
    """The user's language (ISO 639-1), if the client has named it."""
    decisions: SettingsChanged | None = None
    """What the core decides by; None: the core keeps its own."""
