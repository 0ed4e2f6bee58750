"""What is left out while the server is full: of what a camera shows, then places for further clients. Pure."""

from collections.abc import Sequence
from enum import IntEnum

from vita_duplex.engine.messages import Pixels

BUSY, FULL = 0.75, 0.9
"""Shares of the sessions a server may hold. A frame costs VITA 256 tokens in every request that shows it, an utterance
of three seconds 38: without its frames a session costs a fraction."""


class Step(IntEnum):
    """How much is shed."""

    NOTHING = 0
    HALF_THE_FRAMES = 1
    ALL_FRAMES = 2
    CLIENTS = 3
    """They wait, or are refused."""


def step(sessions: int, max_sessions: int) -> Step:
    if sessions >= max_sessions:
        return Step.CLIENTS
    if sessions >= FULL * max_sessions:
        return Step.ALL_FRAMES
    return Step.HALF_THE_FRAMES if sessions >= BUSY * max_sessions else Step.NOTHING


def shown(frames: Sequence[Pixels], shed: Step) -> tuple[Pixels, ...]:
    """What a model is shown of a message's pictures: with several, a camera's, those that are not shed, the newest
    first of all. A single one is what the question is about, and stays."""
    if shed is Step.NOTHING or len(frames) < 2:
        return tuple(frames)
    return tuple(frames[::-2][::-1]) if shed is Step.HALF_THE_FRAMES else ()
