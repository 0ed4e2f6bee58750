"""A client in the queue: it is told its place, and what it sends meanwhile is kept for its session."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from fastapi import WebSocket, WebSocketDisconnect

from vita_duplex.server.access.admission import Admission, Ticket
from vita_duplex.server.realtime.event_writer import queue_place

KEPT_FRAMES, KEPT_CHARS = 32, 65_536
"""Text frames (settings, mostly) kept for the session. When that is full, and for microphone audio, which would be
stale by then, what comes is dropped."""
AGAIN_S = 5.0
"""The place is told when it changes, and this often."""


async def wait_for_place(
    socket: WebSocket, admission: Admission, ticket: Ticket, changed: Callable[[], Awaitable[None]]
) -> list[str]:
    """Return the kept text frames once `ticket` has its session. Errors: `WebSocketDisconnect`.

    `changed` returns when somebody has left the queue or a session.
    """
    kept: list[str] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(_keep(socket, kept), name="keep")
            while ticket.began is None:
                await socket.send_text(json.dumps(queue_place(*admission.place(ticket))))
                try:
                    async with asyncio.timeout(AGAIN_S):
                        await changed()
                except TimeoutError:
                    pass
            keeping.cancel()
    except* WebSocketDisconnect as gone:
        raise gone.exceptions[0] from None
    return kept


async def _keep(socket: WebSocket, kept: list[str]) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        text = message.get("text")
        room = len(kept) < KEPT_FRAMES and sum(map(len, kept)) + len(text or "") <= KEPT_CHARS
        if text is not None and room and "input_audio_buffer.append" not in text[:200]:
            kept.append(text)
