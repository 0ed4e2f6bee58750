"""The seams of a session: what it asks of a model, of ears and of a voice."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio in [-1, 1], shape [n]."""

Frame = NDArray[np.uint8]
"""A picture as the camera saw it (not mirrored), RGB, shape [height, width, 3]."""

INPUT_RATE = 16_000
"""Sample rate of everything a user says, inside the server."""

Progress = Callable[[float, str], None]
"""Told of a share done in [0, 1] and what is being done."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of user speech at 16 kHz, or a typed query (`text` set, no samples)."""

    number: int
    samples: Samples | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class UserMessage:
    """An accepted query: its words where they are known, its audio where they are not."""

    text: str | None
    utterances: tuple[Utterance, ...] = ()


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the user heard of a reply; `cut` if that is not all of it."""

    text: str
    cut: bool = False


Message = UserMessage | AssistantMessage


@dataclass(frozen=True, slots=True)
class Query:
    """One request: what was said before and what has to be judged and answered now."""

    history: tuple[Message, ...]
    utterances: tuple[Utterance, ...]
    instructions: str = ""
    frames: tuple[Frame, ...] = ()
    """What is seen now, oldest first: a photograph, or several frames of a camera or a film. An array is not
    changed once it is here: an instance knows it again by its identity, as it does an utterance's samples."""
    answer_so_far: str | None = None
    """The beginning of the answer, as text, from an instance that failed while it gave it. It was judged there."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Probabilities of the state tokens `<1>` (meant for us), `<2>` (not), `<3>` (typed); they sum to 1."""

    p1: float
    p2: float
    p3: float
    transcripts: tuple[str, ...] = ()
    """The words heard, one text per utterance, where the instance has ears with text."""
    ears_s: float = 0.0
    """Seconds it took to hear them."""

    @property
    def state(self) -> str:
        probabilities = {"<1>": self.p1, "<2>": self.p2, "<3>": self.p3}
        return max(probabilities, key=probabilities.__getitem__)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost, in tokens of the engine."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Sound:
    """Speech in a chat, at 16 kHz."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class Picture:
    """A data URL of an image that can be decoded."""

    url: str


@dataclass(frozen=True, slots=True)
class Film:
    """A data URL of a video that can be decoded."""

    url: str


@dataclass(frozen=True, slots=True)
class Contribution:
    """One message of a chat, its parts in the order they were given."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Sound | Picture | Film, ...]

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are chosen; None is what the instance does by itself."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that belongs to no session: all of a dialogue, of which the last message is to be answered."""

    messages: tuple[Contribution, ...]
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a chat's answer."""

    reason: Literal["stop", "length"]
    usage: Usage


class Instance(Protocol):
    """One running engine."""

    name: str
    sees: bool
    """Whether it looks at a query's frames, and a chat's pictures and films."""

    def answer(self, query: Query) -> AsyncGenerator[Judgement | str | Usage]:
        """Yield one judgement, then text deltas, then the usage if it is known; with `answer_so_far` only what
        follows it. Closing the iterator aborts the request.

        Errors: `PartFailed` when the engine cannot go on.
        """
        ...

    def chat(self, chat: Chat) -> AsyncGenerator[Judgement | str | Finished]:
        """Yield what the model judged, if it did, then text deltas, then the end. Closing the iterator aborts the
        request. Unlike a query it is answered whatever the judgement.

        Errors: `Unanswerable` when this request can have no answer; `PartFailed` when the engine cannot go on.
        """
        ...

    async def warm(self, query: Query) -> None:
        """Compute what does not depend on the query's last words, so that an answer starts sooner."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether a request could be answered now."""
        ...

    def restart(self) -> None:
        """Start the engine again, dead or hanging; blocks, and is called in a thread of its own. Nothing is to be done
        where it comes back by itself.

        Errors: `PartFailed` when it does not start.
        """
        ...

    def close(self) -> None:
        """Shut the engine down."""
        ...


Windows = NDArray[np.float32]
"""Stretches of 512 samples (32 ms at 16 kHz), shape [n, 512]."""

Probabilities = NDArray[np.float32]
"""Of speech, one per window, shape [n]."""

VadState = NDArray[np.float32]
"""What a detector remembers of one session between windows, shape [s] with its own s; of n sessions [n, s]."""


class Vad(Protocol):
    """A voice activity detector for any number of sessions; it keeps nothing of them itself."""

    def start(self) -> VadState:
        """The state before a session's first window."""
        ...

    def probabilities(self, windows: Windows, states: VadState) -> tuple[Probabilities, VadState]:
        """Hear the next window of each of n sessions: [n, 512] and [n, s] to [n] and [n, s]. Blocks."""
        ...


class Synthesiser(Protocol):
    """A voice."""

    rate: int
    """Samples per second of what it yields."""

    def synthesise(self, text: str) -> AsyncGenerator["Samples | PartFailed"]:
        """Speak one piece of text. Closing the iterator cancels. A failure that is yielded says why another voice
        speaks it.

        Errors: `PartFailed` when this text cannot be spoken.
        """
        ...


class PartFailed(Exception):
    """A part (an instance, the ears, the voice) could not do what it was asked."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(f"{part}: {message}")
        self.part = part
        self.message = message


class Unanswerable(Exception):
    """A chat that the model cannot take, and why: too long, a medium that it cannot use."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio of a turn that is due now."""

    samples: Samples
    piece_samples: int
    """Length of the piece of text this belongs to. While it is being synthesised at least what a slow voice takes
    for it; if that was told, the true length comes with a last chunk without samples."""
    text: str | None = None
    """The piece's text, with its first chunk."""
    error: str | None = None
    """Why this piece has no sound, or not all of it, or that of another voice; comes once."""


class Speech(Protocol):
    """One turn being spoken: text deltas in, paced audio out."""

    synthesised: int
    """Samples the voice has made so far."""
    first_clause: float | None
    """When the first piece of text was complete (loop time, seconds)."""
    first_synthesised: float | None
    """When the voice yielded its first samples (loop time, seconds)."""

    @property
    def underruns(self) -> int:
        """Times the client ran out in mid-reply because the voice, or the text for it, was late."""
        ...

    def write(self, delta: str) -> None: ...

    def finish(self) -> None:
        """No more text will come."""
        ...

    async def play(self, send: Callable[[Chunk], None]) -> None:
        """Send each chunk when it is due; return when the last sample was heard. Cancelling stops the voice."""
        ...

    def hold(self) -> None: ...

    def resume(self) -> None: ...

    def heard(self) -> int:
        """Samples heard by now."""
        ...


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the ears made of one utterance."""

    text: str
    log_probability: float = 0.0
    """Mean natural log-probability of the words' tokens (0 = certain); 0 if there are none."""


class Transcriber(Protocol):
    """Ears with text."""

    def transcribe(self, samples: Samples) -> Transcript:
        """Hear one utterance at 16 kHz. Blocks; may be called from several threads."""
        ...
