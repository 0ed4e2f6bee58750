"""What is said: utterances, messages of a dialogue, requests to an instance and the verdict that comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vita_duplex.engine.audio import Samples
from vita_duplex.engine.events import SaidInto
from vita_duplex.engine.truncation import RETAINED

Pixels = NDArray[np.uint8]
"""A picture as the camera saw it (not mirrored), RGB, shape [height, width, 3]."""


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
    cut: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the client's that a model may call."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """A JSON schema."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a model is offered for one reply."""

    tools: tuple[Tool, ...] = ()
    choice: Literal["auto", "none", "required", "named"] = "auto"
    """Whether the model decides, must not call, must call one, or must call the one of `name`."""
    name: str | None = None
    parallel: bool = True
    """Whether one reply may have several calls."""

    @property
    def offered(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        if self.choice == "none":
            return ()
        return tuple(tool for tool in self.tools if self.name in (None, tool.name))


@dataclass(frozen=True, slots=True)
class Call:
    """A model wants this tool called. The client calls it, and gives the output under the same id."""

    id: str
    name: str
    arguments: str
    """JSON as the model wrote it: it may be none."""


@dataclass(frozen=True, slots=True)
class CallMessage:
    """A call, and what came of it."""

    call: Call
    output: str | None = None
    """None: there is none yet."""
    late: bool = False
    """The user had gone on to something else when the output came."""

    @property
    def text(self) -> str:
        """For a model that knows no calls."""
        return f"[{self.call.name}({self.call.arguments}): {self.told}]"

    @property
    def told(self) -> str:
        """The output as a model is told of it."""
        if self.output is None:
            return "there is no output yet"
        return f"(late, after the user had gone on) {self.output}" if self.late else self.output


Message = UserMessage | AssistantMessage | CallMessage


@dataclass(frozen=True, slots=True)
class Situation:
    """What an utterance is said into; the same words are a nod in one situation and an answer in another."""

    reply: SaidInto = "idle"
    seconds: float = 0.0
    """Since the reply ended."""
    last_words: str = ""
    """The last sentence of the assistant that was heard."""


@dataclass(frozen=True, slots=True)
class Query:
    """One request: what was said before and what has to be judged and answered now."""

    history: tuple[Message, ...]
    utterances: tuple[Utterance, ...]
    """Empty: nothing new was said, and the history is answered as it is."""
    instructions: str = ""
    frames: tuple[Pixels, ...] = ()
    """What is seen now, oldest first: a photograph, or several frames of a camera or a film. An array is not
    changed once it is here: an instance knows it again by its identity, as it does an utterance's samples."""
    answer_so_far: str | None = None
    """The beginning of the answer, as text, from an instance that failed while it gave it. It was judged there."""
    situation: Situation = Situation()
    unfinished: bool = False
    """A glance: the speech goes on, and what there is of it may begin and end in the middle of a word."""
    language: str | None = None
    """What the user speaks (ISO 639-1, for example "zh"), where the client has said it."""
    max_tokens: int | None = None
    """The answer is cut after so many; None: after as many as the instance allows. 0: only the verdict is used."""
    tools: Tools = Tools()
    retained: float | None = RETAINED
    """Of a history that the model cannot read whole the oldest turns are left out, until the others fill this share
    of the room; None: the request fails."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """So many messages of the history, the oldest, were not shown to the model."""

    messages: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Probabilities of the state tokens `<1>` (meant for us), `<2>` (not), `<3>` (typed); they sum to 1."""

    p1: float
    p2: float
    p3: float
    transcripts: tuple[str, ...] = ()
    """The words heard, one text per utterance, where the instance hears words."""
    asr_s: float = 0.0
    """Seconds it took to hear them."""
    finished: float | None = None
    """Probability that the speaker has finished, where the instance can tell from the words."""

    @property
    def state(self) -> str:
        probabilities = {"<1>": self.p1, "<2>": self.p2, "<3>": self.p3}
        return max(probabilities, key=probabilities.__getitem__)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost, in tokens of the engine."""

    input_tokens: int
    output_tokens: int
    cut: bool = field(default=False, compare=False)
    """The answer ended because no more of it was allowed."""
    thought_tokens: int = 0
    """Of the output, what the model thought and nobody is told."""


@dataclass(frozen=True, slots=True)
class ChatAudio:
    """Speech in a chat, at 16 kHz."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class ChatImage:
    """A data URL of an image that can be decoded."""

    url: str


@dataclass(frozen=True, slots=True)
class ChatVideo:
    """A data URL of a video that can be decoded."""

    url: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a chat, its parts in the order they were given."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | ChatAudio | ChatImage | ChatVideo, ...]

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
    schema: Mapping[str, Any] | None = None
    """A JSON schema that the answer follows, for instances that can."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that belongs to no session: all of a dialogue, of which the last message is to be answered."""

    messages: tuple[ChatMessage | CallMessage, ...]
    sampling: Sampling = Sampling()
    tools: Tools = Tools()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a chat's answer."""

    reason: Literal["stop", "length", "calls"]
    usage: Usage
