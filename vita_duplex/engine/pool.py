"""The instances of a server, which of them each session sits on, and which of them may be relied on. Pure but for
`warm` and `close`."""

import asyncio
import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from vita_duplex.engine.events import Slot
from vita_duplex.engine.health import Cause, Health
from vita_duplex.engine.messages import Query
from vita_duplex.engine.ports import Instance, PartFailed

log = logging.getLogger(__name__)

GLANCES = 2
"""That an instance is asked at a time, by all sessions: more would make verdicts wait."""


class Seat:
    """One session's two slots, each bound to an instance of a pool: two different instances where the pool has two.

    A slot stays bound to its instance while that is down: requests go to a stand-in until it is back.
    """

    def __init__(self, pool: "Pool", number: int, generator: Instance, monitor: Instance) -> None:
        self.slots = generator, monitor
        self.generator: Slot = 0
        self.idle = True
        """Nobody speaks and nothing is asked: the slots may be bound anew and nobody notices."""
        self.changed = asyncio.Event()
        """Set when who serves the slots may have changed; whoever waits for it clears it."""
        self._pool = pool
        self._number = number

    @property
    def bound(self) -> Instance:
        """The instance that the generator slot is bound to."""
        return self.slots[self.generator]

    @property
    def listening(self) -> Instance:
        """The instance that the monitor slot is bound to."""
        return self.slots[1 - self.generator]

    def bind(self, generator: Instance, monitor: Instance) -> None:
        self.slots = (generator, monitor) if self.generator == 0 else (monitor, generator)
        self.changed.set()

    def update(self, generator: Slot, *, idle: bool) -> None:
        """Say how the session is: which slot is its generator, and whether it is idle."""
        if (generator, idle) != (self.generator, self.idle):
            self.generator, self.idle = generator, idle
            self._pool.settle()

    def serving(self, slot: Slot) -> Instance:
        """Who takes a request of this slot now: its own instance; if that cannot be relied on, one that can."""
        return self.stand_in(slot, ()) or self.slots[slot]

    def stand_in(self, slot: Slot, tried: Collection[str]) -> Instance | None:
        """The best instance for this slot that is up and not among `tried`; None if there is none."""
        return self._pool.best((self.slots[slot], self.slots[1 - slot]), tried, self._number)

    def relies_on(self, instance: Instance) -> bool:
        """Whether an instance is up and this session has no reason to avoid it."""
        return instance.healthy and not self._pool.health[instance.name].doubted_by(self._number)

    @contextmanager
    def glance(self, instance: Instance) -> Iterator[bool]:
        """Whether an instance may be asked for one more glance, which lasts as long as this."""
        glances = self._pool.glances
        allowed = glances[instance.name] < GLANCES
        glances[instance.name] += allowed
        try:
            yield allowed
        finally:
            glances[instance.name] -= allowed

    def stalled(self, instance: Instance, now: float) -> None:
        """An instance keeps a request of this session waiting for too long."""
        self._pool.report("slow", instance, now, self._number)

    def failed(self, instance: Instance, now: float) -> None:
        """An instance could not go on with a request of this session."""
        self._pool.report("failing", instance, now, self._number)

    def progressed(self, instance: Instance) -> None:
        """An instance has yielded something, so it is not slow any more."""
        self._pool.withdraw("slow", instance, self._number)


class Pool:
    """Seats sessions on instances, so that the numbers of their generators differ by at most one.

    Roles swap in the middle of a conversation, and sessions leave: then others change their instances, each as soon
    as it is idle. While a session talks its generator stays where it is.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        self.instances = tuple(instances)
        self.health: defaultdict[str, Health] = defaultdict(Health)
        self._elsewhere: Counter[str] = Counter()
        self._seats: dict[int, Seat] = {}  # by identity, in the order of coming
        self._numbers = itertools.count()  # of the sessions and requests that report
        self._draining: set[str] = set()
        self._lent: Counter[str] = Counter()
        self.glances: Counter[str] = Counter()
        """Under way, by instance."""

    # ── who sits where ─────────────────────────────────────────────────────────────────

    def seat(self) -> Seat:
        """Two slots for a new session. Give them back with `leave`."""
        seat = Seat(self, next(self._numbers), *self._places(None, None))
        self._seats[id(seat)] = seat
        return seat

    def leave(self, seat: Seat) -> None:
        del self._seats[id(seat)]
        self.settle()

    def add(self, instance: Instance) -> None:
        """Another instance, of a name that none has now. It has to compute something before it is relied on."""
        self.instances = (*self.instances, instance)
        self.health[instance.name] = Health()
        self.doubt(instance)
        self.settle()

    def drop(self, name: str) -> bool:
        """Let a draining instance go, if nobody sits on it and nothing is asked of it: whether it is gone."""
        seated = any(one.name == name for seat in self._seats.values() for one in seat.slots)
        if name not in self._draining or seated or self._lent[name]:
            return False
        self.instances = tuple(one for one in self.instances if one.name != name)
        self._draining.discard(name)
        del self._elsewhere[name]
        self.tell()
        return True

    def note_elsewhere(self, name: str, sessions: int) -> None:
        """An instance is as busy for others, who are not of this pool, as with so many of our sessions."""
        self._elsewhere[name] = sessions

    def drain(self, name: str) -> None:
        """Let an instance's sessions move to the others as they become idle; no new slot is bound to it.

        With every instance draining the sessions stay where they are.
        """
        self._draining.add(name)
        self.settle()

    def readmit(self, name: str) -> None:
        """End a drain."""
        self._draining.discard(name)
        self.settle()

    @property
    def draining(self) -> frozenset[str]:
        return frozenset(self._draining)

    @property
    def generators(self) -> dict[str, int]:
        """Sessions whose generator slot is bound to an instance, by its name."""
        return self._loads(seat.bound for seat in self._seats.values())

    def settle(self) -> None:
        """Bind idle sessions anew until loads are even, or only those who talk could still change that."""
        idle = [seat for seat in self._seats.values() if seat.idle]
        for seat in idle:
            if (places := self._places(seat.bound, seat.listening)) != (seat.bound, seat.listening):
                seat.bind(*places)
        loads = self._burdens
        while idle:
            least = self._least(self._open, loads)
            movable = [seat for seat in idle if loads[seat.bound.name] > loads[least.name] + 1]
            if not movable:
                return
            seat = movable[0]
            seat.bind(least, seat.bound if seat.listening is least else seat.listening)
            loads = self._burdens

    @property
    def _open(self) -> list[Instance]:
        """Those that take slots."""
        return [one for one in self.instances if one.name not in self._draining] or list(self.instances)

    def _places(self, generator: Instance | None, monitor: Instance | None) -> tuple[Instance, Instance]:
        """Open instances for both slots, different ones where there are two; what can stay stays."""
        places = self._open
        generator = _kept(generator, places) or self._least(places, self._burdens)
        others = [one for one in places if one is not generator] or places
        listening = self._loads(seat.listening for seat in self._seats.values())
        return generator, _kept(monitor, others) or self._least(others, listening)

    def _least(self, places: Sequence[Instance], loads: Mapping[str, int]) -> Instance:
        return min(places, key=lambda one: loads[one.name])

    @property
    def _burdens(self) -> dict[str, int]:
        """Generators of our sessions and the work of others, by instance."""
        return {name: count + self._elsewhere[name] for name, count in self.generators.items()}

    def _loads(self, bound: Iterable[Instance]) -> dict[str, int]:
        counted = Counter(one.name for one in bound)
        return {one.name: counted[one.name] for one in self.instances}

    # ── who may be relied on ───────────────────────────────────────────────────────────

    @property
    def doubted(self) -> frozenset[str]:
        """Instances that say they are well and are not relied on: nothing is asked of them while another is there."""
        return frozenset(one.name for one in self.instances if self.health[one.name].doubted)

    @property
    def works(self) -> dict[str, bool]:
        """By instance, whether it is up and able to compute."""
        return {one.name: one.healthy and not self.health[one.name].broken for one in self.instances}

    def report(self, cause: Cause, instance: Instance, now: float, session: int | None = None) -> None:
        """An instance was slow or has failed, in a session or in a request of none."""
        witness = next(self._numbers) if session is None else session
        sessions = sum(instance in seat.slots for seat in self._seats.values())
        self.health[instance.name].report(cause, witness, sessions, now)
        self.tell()

    def withdraw(self, cause: Cause, instance: Instance, session: int) -> None:
        if self.health[instance.name].withdraw(cause, session):
            self.tell()

    def doubt(self, instance: Instance) -> None:
        """An instance cannot compute, or was just started: no session relies on it."""
        self.health[instance.name].broken = True
        self.tell()

    def trust(self, instance: Instance) -> None:
        """An instance has computed something: whatever was reported of it is over."""
        if self.health[instance.name].suspected:
            self.health[instance.name] = Health()
            self.tell()

    def tell(self) -> None:
        """Let every session see who serves it now."""
        for seat in self._seats.values():
            seat.changed.set()

    def best(self, own: Sequence[Instance], tried: Collection[str], session: int) -> Instance | None:
        """Of the instances that are up and not among `tried`: one that the session does not avoid, if possible one
        of `own` in their order, else one that is not draining, with the fewest generators. None if there is none."""
        for one in own:
            if one.healthy and not self.health[one.name].doubted_by(session) and one.name not in tried:
                return one
        loads, mine = self.generators, [one.name for one in own]

        def rank(one: Instance) -> tuple[bool, int, bool, int]:
            place = mine.index(one.name) if one.name in mine else len(mine)
            avoided = self.health[one.name].doubted_by(session)
            return avoided, place, one.name in self._draining, loads[one.name]

        up = [one for one in self.instances if one.healthy and one.name not in tried]
        return min(up, key=rank, default=None)

    @contextmanager
    def lend(self, tried: Collection[str]) -> Iterator[Instance | None]:
        """The instance for a request of no session: up, not among `tried`, and with the least to do; None if there is
        none."""
        loads = self.generators

        def rank(one: Instance) -> tuple[bool, bool, int]:
            asked = loads[one.name] + self._lent[one.name]
            return self.health[one.name].doubted, one.name in self._draining, asked

        up = [one for one in self.instances if one.healthy and one.name not in tried]
        chosen = min(up, key=rank, default=None)
        if chosen is None:
            yield None
            return
        self._lent[chosen.name] += 1
        try:
            yield chosen
        finally:
            self._lent[chosen.name] -= 1

    # ── their life ─────────────────────────────────────────────────────────────────────

    async def warm(self) -> None:
        """Let each instance make its first, slow computations before anybody waits for them.

        An instance that cannot is doubted and left to its supervisor: a remote server may come up later.

        Errors: `PartFailed` when all instances are up and none can compute, which is a wrong setting.
        """
        latest = None
        for instance in self.instances:
            try:
                await instance.warm(Query((), ()))
            except PartFailed as failure:
                log.warning("%s", failure)
                self.doubt(instance)
                latest = failure
        if latest and all(one.healthy for one in self.instances) and len(self.doubted) == len(self.instances):
            raise latest

    def close(self) -> None:
        for instance in self.instances:
            instance.close()


def _kept(wanted: Instance | None, places: Sequence[Instance]) -> Instance | None:
    return next((one for one in places if one is wanted), None)
