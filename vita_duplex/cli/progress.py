"""A bar for people who wait for models."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NoReturn

from tqdm import tqdm

from vita_duplex.engine.ports import Progress

BAR = "{desc:<32} {bar:30} {n:3.0f} %  {elapsed}"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for people; logs and containers get a line per phase instead."""
    logging.getLogger("vita_duplex.server.http.app").setLevel(logging.WARNING)
    with ExitStack() as stack:
        bars: list[tqdm[NoReturn]] = []

        def show(share: float, phase: str) -> None:
            if not bars:  # what fails before anything is loaded needs no bar
                bars.append(stack.enter_context(tqdm(total=100, bar_format=BAR)))
            bars[0].set_description_str(phase, refresh=False)
            bars[0].update(100 * share - bars[0].n)
            if share == 1:
                bars[0].close()

        yield show
