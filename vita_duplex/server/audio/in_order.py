"""Numbered pieces of audio in their order, though they came in another one or not at all. Pure."""

from typing import Generic, TypeVar

Piece = TypeVar("Piece")


class InOrder(Generic[Piece]):
    """Gives out what came, in the order of its numbers. What is missing is waited for until `depth` later pieces
    are there; then None stands in its place."""

    def __init__(self, depth: int, reach: int = 1000) -> None:
        """`reach`: a number further away than that begins the count anew: its sender did."""
        self.late = 0
        """Pieces that came twice, or when their place was given out already."""
        self._depth = depth
        self._reach = reach
        self._next: int | None = None
        self._early: dict[int, Piece] = {}

    def push(self, number: int, piece: Piece) -> list[Piece | None]:
        if self._next is None or abs(number - self._next) > self._reach:
            self._next, self._early = number, {}
        if number < self._next or number in self._early:
            self.late += 1
            return []
        self._early[number] = piece
        ready = self._take_ready()
        while len(self._early) >= self._depth:
            ready += [None] * (min(self._early) - self._next)
            self._next = min(self._early)
            ready += self._take_ready()
        return ready

    def _take_ready(self) -> list[Piece | None]:
        ready: list[Piece | None] = []
        assert self._next is not None
        while self._next in self._early:
            ready.append(self._early.pop(self._next))
            self._next += 1
        return ready
