"""Who may knock: sockets and tries of one network address, before anything is read or computed for it. Pure."""

import ipaddress
from dataclasses import dataclass

from vita_duplex.config import LimitsConfig
from vita_duplex.server.access.limits import MINUTE, TokenBucket
from vita_duplex.server.errors import Refusal

ADDRESSES_KEPT = 10_000
"""Addresses remembered at the same time. Beyond it those are forgotten that have no socket open."""
IPV6_PREFIX = 64
"""Bits of an IPv6 address that name a customer (RFC 6177); the rest each device chooses itself."""


@dataclass(slots=True)
class _Address:
    sockets: int
    tries: TokenBucket | None


class Arrivals:
    """Sockets of one address at the same time, and its tries: handshakes, and requests that were refused."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._max_sockets = limits.address_sockets
        self._tries_per_minute = limits.address_tries_per_minute
        self._addresses: dict[str, _Address] = {}

    def refusal(self, address: str | None, now: float) -> Refusal | None:
        """Why nothing of this address is looked at now."""
        known = self._known(address, now)
        if known and known.tries and (wait := known.tries.wait(1, now)):
            return Refusal("address_rate_limit_exceeded", "Too many tries from this address; try again later.", wait)
        return None

    def open(self, address: str | None, now: float) -> Refusal | None:
        """A WebSocket handshake: why it is refused, or None; then `close` follows."""
        if refusal := self.refusal(address, now):
            return refusal
        if known := self._known(address, now):
            if self._max_sockets is not None and known.sockets >= self._max_sockets:
                message = f"This address has its {self._max_sockets} connections already; close one first."
                return Refusal("address_socket_limit_reached", message)
            known.sockets += 1
        self.count(address, now)
        return None

    def close(self, address: str | None, now: float) -> None:
        if known := self._known(address, now):
            known.sockets -= 1

    def count(self, address: str | None, now: float) -> None:
        """A try: a handshake, or a request that was refused."""
        known = self._known(address, now)
        if known and known.tries:
            known.tries.spend(1, now)

    def _known(self, address: str | None, now: float) -> _Address | None:
        """None where nothing limits it: no limit is set, or it comes from a Unix socket."""
        if address is None or (self._max_sockets is None and self._tries_per_minute is None):
            return None
        name = _network(address)
        if name not in self._addresses:
            if len(self._addresses) >= ADDRESSES_KEPT:
                self._addresses = {name: one for name, one in self._addresses.items() if one.sockets}
            minute = self._tries_per_minute
            self._addresses[name] = _Address(0, TokenBucket(minute / MINUTE, minute, now) if minute else None)
        return self._addresses[name]


def _network(address: str) -> str:
    """An IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # what a proxy wrote
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
