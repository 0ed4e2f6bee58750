"""The items of a conversation as its client knows them, and their ids. Pure."""

import re
from typing import Any, Literal, cast

Json = dict[str, Any]
Kind = Literal["user", "system", "assistant", "reply", "aside"]
Key = tuple[Kind, int]
"""What an item is: an utterance or a message of the user, a message that the client added for the system or for the
assistant, the reply of a turn, a reply beside the conversation; and its number."""

ITEM_LIMIT = 256
"""Items kept, four times the messages of a dialogue. The oldest are forgotten and can no longer be retrieved."""

_ITEM_ID = re.compile(r"item_(user|system|assistant|reply|aside)_([0-9]{1,9})")
_RESPONSE_ID = re.compile(r"resp_(aside_)?([0-9]{1,9})")


def response_id(key: Key) -> str:
    """The wire's id of a reply's response."""
    kind, number = key
    return f"resp_{number}" if kind == "reply" else f"resp_{kind}_{number}"


def response_key(response_id: str) -> Key | None:
    """The key of a response's id; None if it is no id of ours."""
    read = _RESPONSE_ID.fullmatch(response_id)
    return read and ("aside" if read[1] else "reply", int(read[2]))


class Items:
    """Keeps each item under its key, oldest first. On the wire an item has an id: the client's own, or one made from
    the key."""

    def __init__(self) -> None:
        self._items: dict[Key, Json] = {}
        self._ids: dict[Key, str] = {}  # the client's own
        self._keys: dict[str, Key] = {}
        self.last: Key | None = None
        """The newest item."""

    def id(self, key: Key) -> str:
        """The item's id, whether the item is there yet or not."""
        return self._ids.get(key) or f"item_{key[0]}_{key[1]}"

    @property
    def last_id(self) -> str | None:
        return self.id(self.last) if self.last else None

    def rename(self, key: Key, item_id: str) -> None:
        """The client has an id of its own for an item that is about to be put."""
        self._ids[key], self._keys[item_id] = item_id, key

    def put(self, key: Key, item: Json) -> None:
        """Keep an item, or what it has become."""
        self._items[key] = item
        while len(self._items) > ITEM_LIMIT:
            self.remove(next(iter(self._items)))

    def get(self, key: Key) -> Json | None:
        return self._items.get(key)

    def find(self, item_id: str) -> Key | None:
        """The key of an id, or of an item that would have it: the item may be forgotten, or not be there yet."""
        if key := self._keys.get(item_id):
            return key
        read = _ITEM_ID.fullmatch(item_id)
        return read and (cast(Kind, read[1]), int(read[2]))

    def remove(self, key: Key) -> None:
        del self._items[key]
        if item_id := self._ids.pop(key, None):
            del self._keys[item_id]
        if key == self.last:
            self.last = next(reversed(self._items), None)
