"""Writes session logs into a folder, in one thread for all sessions, off the event loop."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import Full, Queue
from threading import Thread

from vita_duplex import __version__
from vita_duplex.engine.duplex_settings import DuplexConfig
from vita_duplex.engine.events import Command, Event
from vita_duplex.engine.notices import Corrected, Notice, Roles, TurnRecorded
from vita_duplex.engine.ports import PartFailed
from vita_duplex.engine.session_log import Header, header_line, label_line, record_line, roles_line, step_line

log = logging.getLogger(__name__)

WAITING_LIMIT = 4096
"""Lines of all sessions that may wait for the disk, about half a megabyte. When it is full, the session whose line
does not fit is logged no further: a log with a hole could not be replayed, one that ends early can."""


class SessionLogs:
    """The folder and the thread that writes into it."""

    def __init__(self, folder: Path, limit: int = WAITING_LIMIT) -> None:
        """Errors: `PartFailed` when the folder cannot be written."""
        self._folder = folder
        self._waiting: Queue[tuple[Path, str] | None] = Queue(limit)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise PartFailed("session log", f"cannot make the folder {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PartFailed("session log", f"cannot write into the folder {folder}")
        self._thread = Thread(target=self._write, name="session log", daemon=True)
        self._thread.start()

    def open(self, name: str, config: DuplexConfig, voice_rate: int) -> "SessionWriter":
        """Begin the log of a session that begins now."""
        path = self._folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}.jsonl"
        return SessionWriter(lambda line: self._put(path, line), config, voice_rate)

    def close(self) -> None:
        """Write what waits; blocks for as long as the disk takes."""
        self._waiting.put(None)
        self._thread.join()

    def _put(self, path: Path, line: str) -> bool:
        try:
            self._waiting.put_nowait((path, line))
        except Full:
            log.warning("the disk is too slow for session logs: %s ends here", path.name)
            return False
        return True

    def _write(self) -> None:
        failed: set[Path] = set()
        while (item := self._waiting.get()) is not None:
            path, line = item
            if path in failed:
                continue  # no holes
            try:
                with open(path, "a", encoding="utf-8", opener=_private) as file:
                    file.write(f"{line}\n")
            except OSError as error:
                failed.add(path)
                log.warning("cannot write the session log %s: %s", path.name, error.strerror)


class SessionWriter:
    """The log of one session. Each line is handed over as soon as it is known; nothing here waits."""

    def __init__(self, put: Callable[[str], bool], config: DuplexConfig, voice_rate: int) -> None:
        """`put` takes a line, or says that it cannot, and is then asked no more."""
        self._put = put
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._full = False
        header = Header(version=__version__, began=self._began, voice_rate=voice_rate, duplex=config)
        self._add(header_line(header))

    def step(self, now: float, event: Event | None, commands: Sequence[Command]) -> None:
        self._add(step_line(now, event, commands))

    def note(self, notice: Notice) -> None:
        """Of what the client is told, roles, records and what the user corrects."""
        match notice:
            case Roles():
                self._add(roles_line(self._clock() - self._began, notice))
            case Corrected():
                self._add(label_line(self._clock() - self._began, notice))
            case TurnRecorded(record):
                self._add(record_line(record))

    def _add(self, line: str) -> None:
        self._full = self._full or not self._put(line)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
