"""What one address may try, on a clock of numbers."""

import pytest

from vita_duplex.config import LimitsConfig
from vita_duplex.server.access import arrivals as module
from vita_duplex.server.access.arrivals import Arrivals
from vita_duplex.server.errors import Refusal

HERE, THERE = "192.0.2.1", "192.0.2.2"


def code(refusal: Refusal | None) -> str | None:
    return refusal.code if refusal else None


def test_sockets_of_one_address_are_counted_and_come_free() -> None:
    arrivals = Arrivals(LimitsConfig(address_sockets=2))
    assert [code(arrivals.open(HERE, 0)) for _ in range(3)] == [None, None, "address_socket_limit_reached"]
    assert arrivals.open(THERE, 0) is None
    arrivals.close(HERE, 1)
    assert arrivals.open(HERE, 1) is None


def test_tries_come_back_with_time_and_say_when() -> None:
    arrivals = Arrivals(LimitsConfig(address_tries_per_minute=2))
    assert [code(arrivals.open(HERE, 0)) for _ in range(3)] == [None, None, "address_rate_limit_exceeded"]
    refusal = arrivals.refusal(HERE, 10)
    assert refusal
    assert refusal.retry_after_s == pytest.approx(20)
    assert arrivals.refusal(HERE, 30.001) is None
    assert arrivals.refusal(THERE, 0) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", HERE, True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("what a proxy wrote", "something else", False),
    ],
)
def test_of_ipv6_the_network_counts(one: str, other: str, same: bool) -> None:
    arrivals = Arrivals(LimitsConfig(address_sockets=1))
    assert arrivals.open(one, 0) is None
    assert (arrivals.open(other, 0) is not None) == same


def test_without_limits_nothing_is_kept_and_a_unix_socket_has_no_address() -> None:
    free, limited = Arrivals(LimitsConfig()), Arrivals(LimitsConfig(address_sockets=1))
    for _ in range(3):
        assert free.open(HERE, 0) is None
        assert limited.open(None, 0) is None
    assert free._addresses == limited._addresses == {}


def test_addresses_are_forgotten_except_those_with_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADDRESSES_KEPT", 3)
    arrivals = Arrivals(LimitsConfig(address_sockets=1))
    arrivals.open(HERE, 0)
    for number in range(100):
        arrivals.open(f"198.51.100.{number}", 0)
        arrivals.close(f"198.51.100.{number}", 0)
    assert len(arrivals._addresses) <= 3
    assert arrivals.open(HERE, 0) is not None
