"""Origins as browsers and operators write them, and hosts as proxies do."""

import pytest
from pydantic import ValidationError

from vita_duplex.config import AccessConfig
from vita_duplex.server.access.auth import load_access
from vita_duplex.server.access.origins import host, is_of, origin


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("https://example.com/", "https://example.com"),
        ("HTTPS://Example.COM:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("null", "null"),
        ("http://x:99999", "http://x"),
    ],
)
def test_an_origin_is_written_in_one_way(written: str, normal: str) -> None:
    assert origin(written) == normal


@pytest.mark.parametrize(
    ("page", "asked", "same"),
    [
        ("https://example.com", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("http://example.com:80", "example.com", True),
        ("https://example.com:8443", "example.com", True),  # nginx's $host has no port
        ("https://example.com", "example.com:8443", False),
        ("http://example.com", "example.com:443", False),
        ("https://me-8000.app.github.dev", "127.0.0.1:9101", False),
        ("null", "null", False),
        ("capacitor://localhost", "localhost", False),
        ("https://", "", False),
        ("http://[", "[", False),
    ],
)
def test_a_page_is_of_the_host_it_came_from(page: str, asked: str, same: bool) -> None:
    assert is_of(page, host(asked)) is same


def test_the_operators_list_forgives_a_slash_and_no_path() -> None:
    access = load_access(AccessConfig(origins=("https://Example.com/", "capacitor://localhost", "null")))
    assert access.origins == {"https://example.com", "capacitor://localhost", "null"}
    for wrong in ("example.com", "https://example.com/app", "https://a.example,https://b.example/x", ""):
        with pytest.raises(ValidationError, match=r"origins\.0"):
            AccessConfig(origins=(wrong,))
