"""The instances of a server, and which of them a session sits on."""

from collections import Counter
from collections.abc import Sequence

from vita_duplex.engine.seams import Instance, Query


class Pool:
    """Seats sessions on instances: two different ones where there are two, the least used as first generator."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = tuple(instances)
        self._generators: Counter[str] = Counter()

    def seat(self) -> tuple[Instance, Instance]:
        """The instances of a new session's slots, generator first. Give them back with `leave`."""
        ordered = sorted(self.instances, key=lambda one: (not one.healthy, self._generators[one.name]))
        generator, monitor = ordered[0], ordered[1 % len(ordered)]
        self._generators[generator.name] += 1
        return generator, monitor

    def leave(self, slots: tuple[Instance, Instance]) -> None:
        self._generators[slots[0].name] -= 1

    @property
    def generators(self) -> dict[str, int]:
        """Sessions that began with an instance as their generator, by its name."""
        return {instance.name: self._generators[instance.name] for instance in self.instances}

    async def warm(self) -> None:
        """Let each instance make its first, slow computations before anybody waits for them."""
        for instance in self.instances:
            await instance.warm(Query((), ()))

    def close(self) -> None:
        for instance in self.instances:
            instance.close()
