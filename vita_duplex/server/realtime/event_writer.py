"""The frames that go to a client, numbered in the order they are made. Pure.

Reference: the GA event schema as in the `openai` Python package, `openai/types/realtime`.
"""

import json
import struct
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from vita_duplex.engine.messages import Call
from vita_duplex.server.realtime.items import Json, Key

AUDIO_HEADER = struct.Struct("<II")
"""The head of a binary frame: the number of the reply's turn, and the event's own number, as in `event_id`."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An event of the server."""

    number: int
    """Its place among the events of the session."""
    content: Json | bytes
    """Written as JSON, or a binary frame."""
    item_id: str | None = None
    """Of audio: whose, and how much."""
    audio_ms: float = 0.0

    def encode(self) -> str | bytes:
        content = self.content
        return content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False)


class Send(Protocol):
    """Where a conversation's events go."""

    def __call__(self, *frames: Frame) -> None: ...


class EventWriter:
    """Makes the events of one session."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def event(self, kind: str, series: str = "event", **fields: Any) -> Frame:
        """`series`: what its id begins with; of `event` are all that a client can miss."""
        number = next(self._numbers)
        return Frame(number, {"type": kind, "event_id": f"{series}_{number}", **fields})

    def audio(self, key: Key, item_id: str, data: bytes, ms: float) -> Frame:
        number = next(self._numbers)
        return Frame(number, AUDIO_HEADER.pack(key[1], number) + data, item_id, ms)

    def error(self, kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Frame:
        return self.event("error", error=error_fields(kind, code, message, param, event_id))


def error_fields(kind: str, code: str, message: str, param: str | None = None, event_id: str | None = None) -> Json:
    return {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}


def item_fields(item_id: str, role: str, status: str, content: list[Json]) -> Json:
    fields = {"id": item_id, "object": "realtime.item", "type": "message", "role": role}
    return {**fields, "status": status, "content": content}


def call_fields(item_id: str, call: Call, status: str) -> Json:
    fields = {"id": item_id, "object": "realtime.item", "type": "function_call", "status": status}
    return {**fields, "call_id": call.id, "name": call.name, "arguments": call.arguments}


def output_fields(item_id: str, call_id: str, output: str) -> Json:
    fields = {"id": item_id, "object": "realtime.item", "type": "function_call_output", "status": "completed"}
    return {**fields, "call_id": call_id, "output": output}


def refusal(code: str, message: str, retry_after_s: float | None = None) -> Json:
    """The last event of a connection that gets no session."""
    error = error_fields("server_error", code, message)
    if retry_after_s is not None:
        error["retry_after_s"] = retry_after_s
    return {"type": "error", "event_id": "event_1", "error": error}


def queue_place(position: int, estimate_s: float) -> Json:
    """The client's place in the queue, from 1, and the estimated seconds until its session begins."""
    return {"type": "vita.queue", "event_id": "event_1", "position": position, "estimate_s": estimate_s}
