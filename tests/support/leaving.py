"""Shows that nothing leaves the machine: no connection, no datagram, no name that is looked up."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.paths import TESTS

WATCHING = TESTS / "support" / "watching"


@contextmanager
def nothing_leaves_the_machine() -> Iterator[None]:
    """Python processes that begin in here are watched, and so are those that they start."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        notes = Path(folder) / "notes"
        patch.setenv("PYTHONPATH", str(WATCHING), prepend=os.pathsep)
        patch.setenv("LEFT_THE_MACHINE", str(notes))
        yield
        assert not notes.exists(), notes.read_text()
