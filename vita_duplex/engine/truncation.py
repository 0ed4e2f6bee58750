"""Which beginning of a dialogue is left out when it outgrows the model. Pure."""

from collections.abc import Sequence

RETAINED = 0.8
"""Share of the room that is filled after a cut. A cut costs what the engine has cached, so it is to last for turns."""
QUESTION = 0.25
"""Share of the room that is kept for what is asked now."""


class DialogueTooLong(ValueError):
    """The dialogue has outgrown the model, and the client wants nothing of it left out."""


def left_out(sizes: Sequence[int], room: int, retained: float) -> int:
    """How many of these turns, the oldest, are left out, so that the others fit into `room`.

    `sizes` are those of all turns since the beginning, in tokens like `room`. As often as the turns outgrow the room,
    the oldest go until the others fill `retained` of it. The result depends on nothing else: while no cut is due, the
    next request finds the same beginning.
    """
    first = total = 0
    for newest, size in enumerate(sizes):
        total += size
        if total > room:
            while first < newest and total > room * retained:
                total -= sizes[first]
                first += 1
    return first
