"""Keeps the instances of a pool running: finds out whether one that seems to hang still answers, and starts again
what is down."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from vita_duplex.engine.messages import Query
from vita_duplex.engine.pool import Pool
from vita_duplex.engine.ports import Instance, PartFailed

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""How often an instance is looked at."""
PROBE_LIMIT_S = 10.0
"""An engine that computes nothing for so long hangs. Generous: a busy one answers late, and stopping it costs every
request it has."""
FIRST_LIMIT_S = 60.0
"""The same for an engine that has just been started; its first computations are slow."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0

RunBlocking = Callable[[Callable[[], None]], Awaitable[None]]
"""Does blocking work off the event loop."""


class Backoff:
    """When something that is down is started again: at once, then after 1, 2, 4 … 60 s. Pure.

    From the beginning once it has been up for longer than the last wait.
    """

    def __init__(self) -> None:
        self._wait = 0.0
        self._due: float | None = None
        self._up_since: float | None = None

    def is_due(self, up: bool, now: float) -> bool:
        """Told at every look whether it is up: whether to start it now. `now` in seconds."""
        if up:
            self._due = None
            self._up_since = now if self._up_since is None else self._up_since
            if now - self._up_since > self._wait:
                self._wait = 0.0
            return False
        self._up_since = None
        if self._due is None:
            self._due = now + self._wait
        if now < self._due:
            return False
        self._wait = min(max(FIRST_WAIT_S, 2 * self._wait), LONGEST_WAIT_S)
        self._due = None  # the wait begins when the attempt is over
        return True


class Supervisor:
    """Watches over a pool until it is cancelled."""

    def __init__(self, pool: Pool, run_blocking: RunBlocking) -> None:
        self._pool = pool
        self._run_blocking = run_blocking
        self._now = asyncio.get_running_loop().time

    async def run(self) -> None:
        watched: set[Instance] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                for instance in set(self._pool.instances) - watched:
                    tasks.create_task(self._watch(instance), name=f"watch {instance.name}")
                watched = set(self._pool.instances)
                await asyncio.sleep(LOOK_S)

    async def _watch(self, instance: Instance) -> None:
        backoff, state = Backoff(), "up"
        while instance in self._pool.instances:
            before, state = state, self._state(instance)
            if state != before:
                log.log(logging.INFO if state == "up" else logging.ERROR, "instance %s is %s", instance.name, state)
                self._pool.tell()
            suspected = self._pool.health[instance.name].suspected
            if backoff.is_due(instance.healthy and not suspected, self._now()):
                await self._mend(instance)
            else:
                await asyncio.sleep(LOOK_S)

    def _state(self, instance: Instance) -> Literal["up", "down", "doubted"]:
        if not instance.healthy:
            return "down"
        return "doubted" if instance.name in self._pool.doubted else "up"

    async def _mend(self, instance: Instance) -> None:
        """Let a suspected instance compute something small; start it again if it is down or cannot."""
        if instance.healthy and await self._computes(instance, PROBE_LIMIT_S):
            return
        self._pool.doubt(instance)
        try:
            await self._run_blocking(instance.restart)
        except PartFailed as failure:
            log.error("instance %s cannot be started: %s", instance.name, failure)
        else:
            await self._computes(instance, FIRST_LIMIT_S)

    async def _computes(self, instance: Instance, limit_s: float) -> bool:
        """Whether an instance can compute; if it can, every doubt about it is over."""
        try:
            async with asyncio.timeout(limit_s):
                await instance.warm(Query((), ()))
        except (PartFailed, TimeoutError) as failure:
            log.warning("instance %s cannot compute: %s", instance.name, failure or "it hangs")
            return False
        self._pool.trust(instance)
        return True
