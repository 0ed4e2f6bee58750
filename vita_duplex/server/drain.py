"""Stopping without cutting anybody off: after SIGTERM running turns finish, then the server exits."""

import asyncio
import logging
import signal
from types import FrameType
from typing import Protocol

import uvicorn

CLOSE_S = 2
"""Seconds of the grace time that are kept for closing connections and shutting the engines down."""

log = logging.getLogger(__name__)


class Drain:
    """Whether the server is stopping, and by when it will be gone."""

    def __init__(self, grace_s: float) -> None:
        self.begun = asyncio.Event()
        self._patience_s = max(0.0, grace_s - CLOSE_S)
        self._ends: float | None = None

    def begin(self, now: float) -> None:
        if self._ends is None:
            self._ends = now + self._patience_s
            self.begun.set()

    def seconds_left(self, now: float) -> float | None:
        """Seconds that running turns still have; None while nobody wants the server to stop."""
        return None if self._ends is None else max(0.0, self._ends - now)


class Draining(Protocol):
    """A server that can be stopped gently."""

    drain: Drain

    @property
    def sessions(self) -> int: ...


class DrainingServer(uvicorn.Server):
    """uvicorn whose first SIGTERM begins the drain. A second one, and Ctrl-C, exit at once."""

    def __init__(self, config: uvicorn.Config, server: Draining) -> None:
        super().__init__(config)
        self._server = server
        self._asked = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and not self._asked:
            self._asked = True  # the next tick sees it: a signal handler must not touch the event loop
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._asked and self._drained())

    def _drained(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._server.drain.begun.is_set():
            self._server.drain.begin(now)
            log.info("stopping: %d sessions may finish their turns", self._server.sessions)
            return False  # for a moment also without sessions, so that whoever asks sees that it is not ready
        return self._server.sessions == 0 or self._server.drain.seconds_left(now) == 0
