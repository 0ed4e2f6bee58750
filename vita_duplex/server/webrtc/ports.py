"""The UDP ports of ICE within a range, for firewalls. aioice takes any that is free."""

import asyncio
import random
from typing import Any

from aioice.candidate import Candidate, candidate_foundation, candidate_priority
from aioice.ice import Connection, StunProtocol, relayed_candidate, server_reflexive_candidate
from aiortc import RTCPeerConnection

from vita_duplex.config import WebRtcConfig

GATHER_S = 3.0
"""STUN and TURN servers have so long to answer; without them there are the host's own candidates."""


def use_ports(connection: RTCPeerConnection, config: WebRtcConfig) -> None:
    """Before candidates are gathered. aiortc has one ICE transport for a bundle."""
    if config.port_range is None:
        return
    first, last = config.port_range
    for transceiver in connection.getTransceivers():
        ice: Connection = transceiver.receiver.transport.transport.iceGatherer._connection

        async def gather(component: int, addresses: list[str], ice: Any = ice, **_: Any) -> list[Candidate]:
            return await _gather(ice, component, addresses, range(first, last + 1))

        ice.get_component_candidates = gather


async def _gather(ice: Any, component: int, addresses: list[str], ports: range) -> list[Candidate]:
    hosts = [await _bound(ice, component, address, ports) for address in addresses]
    bound = [protocol for protocol in hosts if protocol]
    ice._protocols += bound
    candidates = [protocol.local_candidate for protocol in bound]
    asking: list[Any] = []
    if ice.stun_server:
        asking += [
            server_reflexive_candidate(one, ice.stun_server) for one in bound if ":" not in one.local_candidate.host
        ]
    if ice.turn_server:
        asking.append(
            relayed_candidate(
                component=component,
                hide_related_address=False,
                protocol_factory=lambda: StunProtocol(ice),
                turn_server=ice.turn_server,
                turn_username=ice.turn_username,
                turn_password=ice.turn_password,
                turn_ssl=ice.turn_ssl,
                turn_transport=ice.turn_transport,
            )
        )
    for answer in await asyncio.gather(*(asyncio.wait_for(one, GATHER_S) for one in asking), return_exceptions=True):
        if not isinstance(answer, BaseException):
            candidate, relay = answer
            candidates.append(candidate)
            ice._protocols += [relay] if relay else []
    return candidates


async def _bound(ice: Any, component: int, address: str, ports: range) -> Any:
    """A socket on one of the ports, tried from a random one on; None: all are taken, or the address cannot be used."""
    loop = asyncio.get_running_loop()
    start = random.randrange(len(ports))
    for number in range(len(ports)):
        port = ports[(start + number) % len(ports)]
        try:
            _, protocol = await loop.create_datagram_endpoint(lambda: StunProtocol(ice), local_addr=(address, port))
        except OSError:
            continue
        protocol.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", address),
            component=component,
            transport="udp",
            priority=candidate_priority(component, "host"),
            host=address,
            port=port,
            type="host",
        )
        return protocol
    return None
