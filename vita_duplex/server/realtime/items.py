"""The items of a conversation as its client knows them. Pure."""

from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["said", "reply", "aside", "brought"]
Place = tuple[Kind, int]
"""What an item stands for: an utterance, a turn's reply, a reply beside the conversation, something brought along."""
_NAMES: dict[Kind, str] = {"said": "user", "reply": "reply", "aside": "aside", "brought": "brought"}

ITEM_LIMIT = 256
"""Items kept, four times the messages of a dialogue. The oldest are forgotten and can no longer be retrieved."""


class Items:
    """Keeps each item under its id, oldest first; an id is the client's own or made from the place."""

    def __init__(self) -> None:
        self._items: dict[str, Json] = {}
        self._places: dict[str, Place] = {}
        self._ids: dict[Place, str] = {}
        self.last: str | None = None
        """Id of the newest item."""

    def name(self, place: Place) -> str:
        """The id of the item in a place, whether it is there yet or not."""
        return self._ids.get(place) or f"item_{_NAMES[place[0]]}_{place[1]}"

    def rename(self, place: Place, item_id: str) -> None:
        """The client has a name of its own for an item that is about to be put."""
        self._ids[place], self._places[item_id] = item_id, place

    def put(self, item: Json) -> None:
        """Keep an item, or what it has become."""
        self._items[item["id"]] = item
        while len(self._items) > ITEM_LIMIT:
            self.remove(next(iter(self._items)))

    def get(self, item_id: str) -> Json | None:
        return self._items.get(item_id)

    def place(self, item_id: str) -> Place | None:
        """What an id stands for, or would: the item may be forgotten, or not be there yet."""
        return self._places.get(item_id) or _place(item_id)

    def remove(self, item_id: str) -> None:
        del self._items[item_id]
        if place := self._places.pop(item_id, None):
            del self._ids[place]
        if item_id == self.last:
            self.last = next(reversed(self._items), None)


def _place(item_id: str) -> Place | None:
    """What one of our own ids says."""
    item, _, rest = item_id.partition("_")
    name, _, number = rest.partition("_")
    kinds = [kind for kind, known in _NAMES.items() if known == name]
    if item != "item" or not kinds or not (number.isascii() and number.isdigit() and len(number) < 10):
        return None
    return kinds[0], int(number)
