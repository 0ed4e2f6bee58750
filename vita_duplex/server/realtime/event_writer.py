"""The frames that go to a client, numbered in the order they are made. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

import struct
from itertools import count
from typing import Any, Protocol

from vita_duplex.server.realtime.items import Json, Key

Frame = Json | bytes
"""A text frame to be written as JSON, or a binary one."""
AUDIO_HEADER = struct.Struct("<II")
"""The head of a binary frame: the number of the reply's turn, and the event's own number, as in `event_id`."""


class Send(Protocol):
    """Where a conversation's events go."""

    def __call__(self, *frames: Frame) -> None: ...


class EventWriter:
    """Makes the events of one session."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def event(self, kind: str, **fields: Any) -> Json:
        return {"type": kind, "event_id": f"event_{next(self._numbers)}", **fields}

    def audio(self, key: Key, data: bytes) -> bytes:
        return AUDIO_HEADER.pack(key[1], next(self._numbers)) + data

    def error(self, kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
        return self.event("error", error=error_fields(kind, code, message, param, event_id))


def error_fields(kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
    return {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}


def item_fields(item_id: str, role: str, status: str, content: list[Json]) -> Json:
    fields = {"id": item_id, "object": "realtime.item", "type": "message", "role": role}
    return {**fields, "status": status, "content": content}


def number_of(frame: Frame) -> int:
    """The place of an event among all of its session."""
    if isinstance(frame, bytes):
        return int(AUDIO_HEADER.unpack_from(frame)[1])
    return int(frame["event_id"].removeprefix("event_"))


def refusal(code: str, message: str, retry_after_s: float | None = None) -> Json:
    """The last event of a connection that gets no session."""
    error = error_fields("server_error", code, message)
    if retry_after_s is not None:
        error["retry_after_s"] = retry_after_s
    return {"type": "error", "event_id": "event_1", "error": error}


def queue_place(position: int, estimate_s: float) -> Json:
    """The client's place in the queue, from 1, and the estimated seconds until its session begins."""
    return {"type": "vita.queue", "event_id": "event_1", "position": position, "estimate_s": estimate_s}
