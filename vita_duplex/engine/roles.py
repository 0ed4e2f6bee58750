"""Tells the client which instances serve a session."""

from collections.abc import Callable

from vita_duplex.engine.duplex import Duplex
from vita_duplex.engine.notices import Notice, Roles
from vita_duplex.engine.pool import Seat


class RoleTeller:
    def __init__(self, duplex: Duplex, seat: Seat, tell: Callable[[Notice], None]) -> None:
        self._duplex, self._seat, self._tell = duplex, seat, tell
        self._swaps = 0
        self._told: Roles | None = None

    async def run(self) -> None:
        """Tell whenever the pool has changed something."""
        while True:
            await self._seat.changed.wait()
            self._seat.changed.clear()
            self.tell()

    def swap(self) -> None:
        """The core has swapped the slots' roles."""
        self._swaps += 1
        self._seat.update(self._duplex.generator, idle=False)
        self.tell()

    def tell(self) -> None:
        """Say who serves the slots, if that is news."""
        duplex, seat = self._duplex, self._seat
        roles = Roles(seat.serving(duplex.generator).name, seat.serving(duplex.monitor).name, self._swaps)
        if roles != self._told:
            self._told = roles
            self._tell(roles)
