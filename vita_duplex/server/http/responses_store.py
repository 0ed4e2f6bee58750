"""Earlier responses, for clients that go on from one by its id. In memory, for a while, and of bounded size. Pure."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from vita_duplex.server.realtime.items import Json

KEPT_S = 3600
"""Seconds that a response is kept."""
MOST_BYTES = 64_000_000
"""Of all responses and the dialogues before them, as characters; the oldest give way."""


@dataclass(frozen=True, slots=True)
class Kept:
    owner: str | None
    """The key it was asked with."""
    since: float
    size: int
    response: Json
    dialogue: list[Json]
    """As messages of a chat, the answer included."""
    items: Mapping[str, Json]
    """The messages of the answer by their ids."""


class ResponsesStore:
    """Whoever asks finds only what the same key has asked for. Times are in seconds."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._size = 0

    def keep(self, kept: Kept) -> None:
        """A response that is too large for the store is not kept."""
        self._kept[kept.response["id"]] = kept
        self._size += kept.size
        while self._size > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def find(self, response_id: str, owner: str | None, now: float) -> Kept | None:
        while self._kept and next(iter(self._kept.values())).since + KEPT_S <= now:
            self._drop(next(iter(self._kept)))
        kept = self._kept.get(response_id)
        return kept if kept and kept.owner == owner else None

    def item(self, item_id: str, owner: str | None, now: float) -> Json | None:
        """A message of an answer."""
        holding = [key for key, kept in self._kept.items() if item_id in kept.items]
        found = self.find(holding[0], owner, now) if holding else None
        return found.items[item_id] if found else None

    def forget(self, response_id: str, owner: str | None, now: float) -> bool:
        """Whether there was one."""
        if self.find(response_id, owner, now) is None:
            return False
        self._drop(response_id)
        return True

    def _drop(self, response_id: str) -> None:
        self._size -= self._kept.pop(response_id).size
