"""A language model that reads and writes text, wherever it runs: what the cascade asks of it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol
from uuid import uuid4

from vita_duplex.engine.messages import Call, CallMessage, Finished, LeftOut, Sampling, Tools, Usage
from vita_duplex.engine.truncation import RETAINED

Role = Literal["system", "user", "assistant"]
TemplateMessage = tuple[Role, str]
Dialogue = Sequence[TemplateMessage | CallMessage]
"""Oldest first."""
NO_TOOLS = Tools()

PART = "language model"


class TextModel(Protocol):
    """Dialogue in, words out. Closing an iterator aborts its request."""

    @property
    def healthy(self) -> bool:
        """Whether a request could be answered now."""
        ...

    @property
    def calls(self) -> bool:
        """Whether it can call tools."""
        ...

    def reply(
        self,
        messages: Dialogue,
        begun: str = "",
        max_tokens: int | None = None,
        tools: Tools = NO_TOOLS,
        retained: float | None = RETAINED,
    ) -> AsyncGenerator[str | Call | Usage | LeftOut, None]:
        """Yield the assistant's next message, or what follows its beginning, in pieces, then its calls, then what it
        cost. An empty piece says that the model thinks, or writes a call. Where the context is too short the oldest
        turns are left out as `Query.retained` says, which is yielded first.

        Errors: `PartFailed`.
        """
        ...

    def chat(
        self, messages: Dialogue, sampling: Sampling, tools: Tools = NO_TOOLS
    ) -> AsyncGenerator[str | Call | Finished, None]:
        """Yield the answer to a chat of which nothing is left out, in pieces, then its calls, then its end.

        Errors: `PartFailed`; `Unanswerable` when it is too long, or its schema is none that can be followed.
        """
        ...

    async def warm(self, messages: Dialogue, tools: Tools = NO_TOOLS) -> None:
        """Compute what a reply to `messages` plus one more would start with. Errors: `PartFailed`."""
        ...

    def restart(self) -> None:
        """Start it again; blocks. Errors: `PartFailed`."""
        ...

    def close(self) -> None: ...


def is_system(message: TemplateMessage | CallMessage) -> bool:
    return isinstance(message, tuple) and message[0] == "system"


def new_call(name: str, arguments: str) -> Call:
    """A call under an id of its own: some servers count from 0 in every answer."""
    return Call(f"call_{uuid4().hex[:24]}", name, arguments)
