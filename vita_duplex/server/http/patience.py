"""uvicorn's HTTP, with an end to its patience: a connection that never finishes its request is closed."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""From the connection, or from the first byte of a further request, to the end of its headers; nginx allows 60."""
BODY_S = 300.0
"""For the body; the largest, 16 MiB, takes half of it at 1 Mbit/s."""


class PatientHttp(H11Protocol):
    """h11 refuses what proxies may read differently (two lengths, a length beside chunks, bare line feeds in heads)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await(h11.IDLE)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is self:
            self._await(self.conn.their_state)
        else:
            self._stop()  # a WebSocket now, which has limits of its own

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _await(self, state: Any) -> None:
        """The time of each part runs from its beginning, not from the latest byte."""
        if state is self._awaited:
            return
        self._stop()
        self._awaited = state
        limit_s = {h11.IDLE: HEAD_S, h11.SEND_BODY: BODY_S}.get(state)
        if limit_s is not None:
            self._timer = self.loop.call_later(limit_s, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
