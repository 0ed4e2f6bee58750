"""The items of a conversation as its client knows them, and their ids. Pure."""

import re
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

Json = dict[str, Any]
Kind = Literal["user", "system", "assistant", "reply", "aside", "call", "output"]
Key = tuple[Kind, int]
"""What an item is: an utterance or a message of the user, a message that the client added for the system or for the
assistant, the reply of a turn, a reply beside the conversation, a call in either, an output of
a call; and its number."""

ITEM_LIMIT = 1000
"""Items kept: four hours of talk. The oldest are forgotten and can no longer be retrieved."""

TEXT_LIMIT = 1_000_000
"""Characters of text in all items, more than any model reads. Above it the oldest items are forgotten as well."""

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
    """Keeps each item under its key, in the order of the conversation. On the wire an item has an id: the client's own,
    or one made from the key."""

    def __init__(self, tail: str = "") -> None:
        """`tail`: what the ids of this session end with, so that a client can bring along items of another one."""
        self._tail = tail
        kinds = "|".join(get_args(Kind))
        self._own_id = re.compile(rf"item_({kinds})_([0-9]{{1,9}}){re.escape(tail)}")
        self._items: dict[Key, Json] = {}
        self._ids: dict[Key, str] = {}  # the client's own
        self._keys: dict[str, Key] = {}
        self._removed: dict[Key, None] = {}
        self._characters = 0
        self.forgotten = 0
        """Items that had to go since they were too many."""

    def id(self, key: Key) -> str:
        """The item's id, whether the item is there yet or not."""
        return self._ids.get(key) or f"item_{key[0]}_{key[1]}{self._tail}"

    @property
    def last(self) -> Key | None:
        return next(reversed(self._items), None)

    @property
    def last_id(self) -> str | None:
        return self.id(self.last) if self.last else None

    def rename(self, key: Key, item_id: str) -> None:
        """The client has an id of its own for an item that is about to be put."""
        self._ids[key], self._keys[item_id] = item_id, key

    def put(self, key: Key, item: Json) -> None:
        """Keep an item at the end, or what it has become where it is."""
        self._characters += _characters(item) - _characters(self._items.get(key))
        self._items[key] = item
        while len(self._items) > ITEM_LIMIT or (self._characters > TEXT_LIMIT and len(self._items) > 1):
            self.remove(next(iter(self._items)))
            self.forgotten += 1

    def move(self, key: Key, before: Key | None) -> None:
        """Move an item behind another one; None: to the beginning."""
        item, moved = self._items.pop(key), dict[Key, Json]()
        if before is None:
            moved[key] = item
        for other, kept in self._items.items():
            moved[other] = kept
            if other == before:
                moved[key] = item
        self._items = moved

    def up_to(self, key: Key | None) -> Iterator[Key]:
        """This item and those before it, newest first; None: nothing."""
        keys = list(self._items)
        return reversed(keys[: keys.index(key) + 1] if key else [])

    def get(self, key: Key) -> Json | None:
        return self._items.get(key)

    def find(self, item_id: str) -> Key | None:
        """The key of an id, or of an item that would have it: the item may be forgotten, or not be there yet."""
        if key := self._keys.get(item_id):
            return key
        read = self._own_id.fullmatch(item_id)
        return read and (cast(Kind, read[1]), int(read[2]))

    def is_taken(self, item_id: str) -> bool:
        """Whether an item has this id, or one of the server's own will. That of a removed item is free again."""
        key = self.find(item_id)
        return key is not None and key not in self._removed

    def remove(self, key: Key) -> None:
        self._characters -= _characters(self._items.pop(key))
        if item_id := self._ids.pop(key, None):
            del self._keys[item_id]
        else:
            self._removed[key] = None
            if len(self._removed) > ITEM_LIMIT:
                del self._removed[next(iter(self._removed))]


def _characters(item: Json | None) -> int:
    if item is None:
        return 0
    texts = [part.get("text") or part.get("transcript") for part in item.get("content", ())]
    return sum(len(text) for text in (*texts, item.get("arguments"), item.get("output")) if text)
