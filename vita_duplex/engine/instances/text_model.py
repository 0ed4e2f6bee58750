"""A language model that reads and writes text, wherever it runs: what the cascade asks of it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol

from vita_duplex.engine.messages import Finished, Sampling, Usage

Role = Literal["system", "user", "assistant"]
TemplateMessage = tuple[Role, str]

PART = "language model"


class TextModel(Protocol):
    """Dialogue in, words out. Closing an iterator aborts its request."""

    @property
    def healthy(self) -> bool:
        """Whether a request could be answered now."""
        ...

    def reply(
        self, messages: Sequence[TemplateMessage], begun: str = "", max_tokens: int | None = None
    ) -> AsyncGenerator[str | Usage, None]:
        """Yield the assistant's next message, or what follows its beginning, in pieces, then what it cost. An empty
        piece says that the model thinks. The oldest messages are left out where the context is too short.

        Errors: `PartFailed`.
        """
        ...

    def chat(self, messages: Sequence[TemplateMessage], sampling: Sampling) -> AsyncGenerator[str | Finished, None]:
        """Yield the answer to a chat of which nothing is left out, in pieces, then its end.

        Errors: `PartFailed`; `Unanswerable` when it is too long, or its schema is none that can be followed.
        """
        ...

    async def warm(self, messages: Sequence[TemplateMessage]) -> None:
        """Compute what a reply to `messages` plus one more would start with. Errors: `PartFailed`."""
        ...

    def restart(self) -> None:
        """Start it again; blocks. Errors: `PartFailed`."""
        ...

    def close(self) -> None: ...
