"""Calls in the form of OpenAI's chat completions: what is offered, and what comes back in pieces. Pure.

Source: OpenAI API reference, "Create chat completion", `tools` and the deltas' `tool_calls`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vita_duplex.engine.instances.text_model import new_call
from vita_duplex.engine.messages import Call, Tool, Tools


def offer(tools: Tools) -> dict[str, Any]:
    """The fields of a request; none where there are no tools. A server that knows no `parallel_tool_calls` is only
    asked for it where it matters."""
    if not tools.tools:
        return {}
    named = {"type": "function", "function": {"name": tools.name}}
    fields = {"tools": described(tools.tools), "tool_choice": named if tools.choice == "named" else tools.choice}
    return fields if tools.parallel else {**fields, "parallel_tool_calls": False}


def described(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """A tool without a schema gets one that takes nothing, as some servers and templates insist on one."""
    nothing = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters) or nothing,
            },
        }
        for tool in tools
    ]


@dataclass(slots=True)
class Piece:
    """What has come of one call."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class StreamedCalls:
    """Deltas of calls in, whole calls out.

    A piece belongs to the call of its `index`. Ollama gives every call index 0, and others give none: there a new `id`
    begins a new call.
    """

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._places: dict[Any, Piece] = {}

    def push(self, deltas: Iterable[Any]) -> None:
        """Errors: `AttributeError`, `TypeError` where they have another form."""
        for delta in deltas:
            place, its_id, function = delta.get("index"), delta.get("id") or "", delta.get("function") or {}
            piece = self._places.get(place)
            if piece is None or (its_id and piece.id and its_id != piece.id):
                piece = self._places[place] = Piece()
                self._pieces.append(piece)
            piece.id = piece.id or its_id
            piece.name = piece.name or function.get("name") or ""
            arguments = function.get("arguments") or ""
            piece.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def finish(self, tools: Tools, *, cut: bool) -> Iterator[Call]:
        """The calls of tools that were offered; one that was `cut` is none."""
        offered = {tool.name for tool in tools.offered}
        whole = self._pieces[:-1] if cut else self._pieces
        for piece in whole:
            if piece.name in offered:
                yield new_call(piece.name, piece.arguments or "{}")
