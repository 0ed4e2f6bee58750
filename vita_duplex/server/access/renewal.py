"""Files that may be replaced while the server runs: keys and certificates. Kubernetes swaps a link, people an inode."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from vita_duplex.config import ConfigError

LOOK_S = 5.0
"""Between two looks at the files."""

log = logging.getLogger(__name__)

State = tuple[tuple[int, int, int] | None, ...]


class Renewal:
    """Files that belong together, and what is done when one of them was replaced.

    `apply` reads them. A `ConfigError` of it leaves things as they were: of a certificate and its key one is always
    replaced first.
    """

    def __init__(self, files: Sequence[Path], apply: Callable[[], None]) -> None:
        self._files = files
        self._apply = apply
        self._seen = _state(files)

    def look(self) -> None:
        state = _state(self._files)
        if state == self._seen:
            return
        self._seen = state
        names = ", ".join(map(str, self._files))
        try:
            self._apply()
            log.info("read again: %s", names)
        except ConfigError as error:
            log.error("%s was replaced by what cannot be used; the old one stays: %s", names, error)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()


def _state(files: Sequence[Path]) -> State:
    return tuple(_stat(file) for file in files)


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
