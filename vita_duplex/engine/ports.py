"""The seams of a session: what it asks of an instance, a VAD, an ASR and a voice (TTS)."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.events import (
    SpeechEnded,
    SpeechForgotten,
    SpeechGrew,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSustained,
)
from vita_duplex.engine.messages import (
    Call,
    Chat,
    Finished,
    LeftOut,
    Query,
    Usage,
    Verdict,
)
from vita_duplex.engine.notices import Notice

Progress = Callable[[float, str], None]
"""Told of a share done in [0, 1] and what is being done."""


class Instance(Protocol):
    """One running engine."""

    name: str
    sees: bool
    """Whether it looks at a query's frames, and a chat's pictures and films."""
    follows_schemas: bool
    """Whether a chat's answers can be made to follow a JSON schema."""
    calls: bool
    """Whether it can call a query's tools."""

    def answer(self, query: Query) -> AsyncGenerator[Verdict | str | Call | Usage | LeftOut]:
        """Yield one verdict, then text deltas and calls, then the usage if it is known; first of all, how much of the
        history the model is not shown, if that is anything. Closing the iterator aborts the request.

        An instance that is given `answer_so_far` yields no verdict and only what follows that text. An instance that
        cannot tell from words leaves `Verdict.finished`, `transcripts` and `asr_s` as they are: only the cascade
        fills them. Only the cascade uses `language`.

        Errors: `PartFailed` when the engine cannot go on.
        """
        ...

    def chat(self, chat: Chat) -> AsyncGenerator[Verdict | str | Call | Finished]:
        """Yield what the model judged, if it did, then text deltas and calls, then the end. Closing the iterator aborts
        the request. Unlike a query it is answered whatever the verdict.

        Errors: `Unanswerable` when this request can have no answer; `PartFailed` when the engine cannot go on.
        """
        ...

    async def warm(self, query: Query) -> None:
        """Compute what does not depend on the query's last words, so that an answer starts sooner. With an empty query
        it is a probe: it succeeds if the engine computes something.

        Errors: `PartFailed` when it computes nothing.
        """
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


SpeechEvent = (
    SpeechStarted | SpeechSustained | SpeechPaused | SpeechResumed | SpeechGrew | SpeechEnded | SpeechForgotten
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a listener noticed: the event, and where in the received audio (samples at 16 kHz)."""

    event: SpeechEvent
    start: int
    """First sample of the utterance's speech."""
    end: int
    """Sample after its last speech so far."""
    now: int
    """Samples received by then."""
    samples: Samples | None = None
    """The utterance up to here, on a pause and at the end; when speech grew, the latest of it."""


class Listener(Protocol):
    """The microphone of one session: samples in, utterances out. Its own settings are its maker's business."""

    def hear(self, samples: Samples) -> bool:
        """Take in samples at 16 kHz; False if too many are waiting and these were dropped."""
        ...

    def forget(self) -> int:
        """Drop what is being said, and the samples that were received and not yet listened to; return their number."""
        ...

    async def end(self) -> int | None:
        """End what is being said, with all that was received so far; return its number, or None if nothing is."""
        ...

    def run(self) -> AsyncGenerator["Heard | PartFailed"]:
        """Yield what is noticed, as long as the session lives. A failure that is yielded says why nothing is noticed
        for a while."""
        ...

    def hint(self, samples: Samples, finished: float) -> None:
        """An instance holds that the speaker of `samples`, yielded on a pause, has finished with this probability."""
        ...

    def note(self, notice: Notice) -> None:
        """Know what the client is told: replies that may come back as echo, utterances that were accepted."""
        ...


class Client(Protocol):
    """Where a session's notices go. Must not block; a client that cannot keep up is closed by its owner."""

    def tell(self, notice: Notice) -> None: ...


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
    """A part (an instance, the VAD, the ASR, the voice) could not do what it was asked."""

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
    """What the ASR made of one utterance."""

    text: str
    log_probability: float = 0.0
    """Mean natural log-probability of the words' tokens (0 = certain); 0 if there are none."""


class AsrModel(Protocol):
    """A model that hears words, on this machine."""

    def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        """Hear one utterance at 16 kHz; `language` as in `Asr`. Blocks; may be called from several threads.

        Errors: `PartFailed` when it cannot be heard.
        """
        ...


class Asr(Protocol):
    """Turns speech into words."""

    async def transcribe(self, samples: Samples, language: str | None = None) -> Transcript:
        """Hear one utterance at 16 kHz. `language` (ISO 639-1) is a hint, for an ASR that knows more than one.

        Errors: `PartFailed` when it cannot be heard.
        """
        ...
