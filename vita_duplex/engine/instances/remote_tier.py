"""Engines that come and go: every address that DNS has for one name is an instance of the pool.

A name that is not resolved for a while changes nothing, for the engines themselves say whether they are well. An engine
whose address is gone gets no new slot, serves out what it has, and leaves the pool when nobody is left on it.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import count
from urllib.parse import urlsplit

from vita_duplex.engine.instances.remote import RemoteConfig, RemoteInstance
from vita_duplex.engine.pool import Pool

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at the name; resolvers keep an answer for its own time."""
RESOLVE_LIMIT_S = 5.0
"""A resolver that answers nothing for so long is asked again."""

Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""The addresses of a host name and a port, as `10.0.0.7:8000` or `[fd00::7]:8000`. Errors: OSError."""


async def resolve(host: str, port: int) -> frozenset[str]:
    """By the system's resolver."""
    async with asyncio.timeout(RESOLVE_LIMIT_S):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = {(family, str(place[0]), int(place[1])) for family, _, _, _, place in found}
    return frozenset(f"[{ip}]:{at}" if family == socket.AF_INET6 else f"{ip}:{at}" for family, ip, at in addresses)


class RemoteTier:
    """The remote instances of one pool."""

    def __init__(self, pool: Pool, config: RemoteConfig, prefix: str = "", resolve: Resolve = resolve) -> None:
        """`prefix` is put before the instances' names, which are the smallest free numbers: they are labels of
        metrics, and have to stay few."""
        assert config.service is not None
        where = urlsplit(config.service)
        self._host, self._port = where.hostname or "", where.port or 80
        self._pool, self._config, self._prefix, self._resolve = pool, config, prefix, resolve
        self._there: dict[str, RemoteInstance] = {}
        self._leaving: set[str] = set()

    async def run(self) -> None:
        """Keep the pool as DNS has it, until cancelled."""
        lost = False
        while True:
            try:
                found = await self._resolve(self._host, self._port)
            except (OSError, TimeoutError) as reason:
                found = ()
                if not lost:
                    log.warning("%s cannot be resolved (%s); the engines stay as they are", self._host, reason)
            lost = not found
            self.look(found)
            await asyncio.sleep(LOOK_S)

    def look(self, found: Collection[str]) -> None:
        """Follow what the name stands for now."""
        if found:
            for address in sorted(set(found) - set(self._there)):
                self._enter(address)
            for address in set(found) & self._leaving:
                self._leaving.discard(address)
                self._pool.readmit(self._there[address].name)
            for address in set(self._there) - set(found) - self._leaving:
                log.info("instance %s leaves: its address is gone", self._there[address].name)
                self._leaving.add(address)
                self._pool.drain(self._there[address].name)
        for instance in self._there.values():
            self._pool.note_elsewhere(instance.name, instance.elsewhere)
        self._drop(address for address in set(self._leaving) if not self._there[address].in_flight)

    def _enter(self, address: str) -> None:
        names = {instance.name for instance in self._pool.instances}
        name = next(name for name in (f"{self._prefix}{number}" for number in count(1)) if name not in names)
        instance = RemoteInstance(name, f"http://{address}", self._config)
        log.info("instance %s comes: %s", name, address)
        self._there[address] = instance
        self._pool.add(instance)

    def _drop(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            if self._pool.drop(self._there[address].name):
                self._leaving.discard(address)
                self._there.pop(address).close()
