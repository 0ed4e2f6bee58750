"""Server-sent events (HTML standard, section 9.2) as OpenAI's API writes them. Pure."""

import json
from typing import Any

DONE = "data: [DONE]\n\n"
"""The end of a stream."""


def event(body: dict[str, Any]) -> str:
    """One event, named by its type where it has one."""
    name = f"event: {body['type']}\n" if "type" in body else ""
    return f"{name}data: {json.dumps(body)}\n\n"
