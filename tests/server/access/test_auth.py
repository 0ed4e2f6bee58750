"""Who may come in: keys, ephemeral keys, origins, and who must not be served by accident."""

import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vita_duplex.config import AccessConfig, ConfigError
from vita_duplex.server.access import auth
from vita_duplex.server.access.auth import (
    Access,
    Caller,
    Credentials,
    Denied,
    credentials,
    hashed,
    load_access,
    new_key,
    refuse_exposure,
)
from vita_duplex.server.realtime.client_events import SessionUpdateFields

KEY, OTHER = new_key(), new_key()
SESSION = SessionUpdateFields(type="realtime", instructions="be brief")


def guarded() -> Access:
    return Access({"laptop": hashed(KEY), "phone": hashed(OTHER)}, frozenset({"https://app.example"}))


def bearer(key: str, origin: str | None = None, host: str | None = None) -> Credentials:
    return Credentials(f"Bearer {key}", (), origin, host)


def denied(access: Access, credentials: Credentials, now: float = 0.0, *, ephemeral: bool = True) -> tuple[int, str]:
    with pytest.raises(Denied) as denial:
        access.admit(credentials, now, ephemeral=ephemeral)
    return denial.value.status, denial.value.code


def test_a_key_is_known_by_its_name() -> None:
    assert guarded().admit(bearer(KEY), 0) == Caller("laptop")
    assert guarded().admit(bearer(OTHER), 0) == Caller("phone")


def test_browsers_send_the_key_as_a_subprotocol() -> None:
    offered = ("realtime", f"openai-insecure-api-key.{KEY}")
    assert guarded().admit(Credentials(subprotocols=offered), 0) == Caller("laptop")


@given(st.text(max_size=60))
def test_no_other_key_opens(key: str) -> None:
    assert denied(guarded(), bearer(key))[0] == 401
    assert denied(guarded(), Credentials(subprotocols=(f"openai-insecure-api-key.{key}",)))[0] == 401


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {hashed(KEY)}"],
    ids=["none", "empty", "no key", "blank key", "another scheme", "no scheme", "the hash"],
)
def test_without_a_key_nobody_comes_in(header: str | None) -> None:
    assert denied(guarded(), Credentials(header))[0] == 401


def test_all_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(known: str, wanted: str) -> bool:
        compared.append(known)
        return hmac_compare(known, wanted)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    guarded().admit(bearer(KEY), 0)
    assert compared == [hashed(KEY), hashed(OTHER)], "also those after the one that fits"


def test_an_ephemeral_key_opens_sessions_for_its_owner_until_it_expires() -> None:
    access = guarded()
    key, expires = access.issue("laptop", SESSION, 60, now=1000)
    assert (key[:3], expires) == ("ek_", 1060)
    assert access.admit(bearer(key), 1059.9) == Caller("laptop", SESSION)
    assert denied(access, bearer(key), 1060) == (401, "invalid_api_key")


def test_an_ephemeral_key_makes_no_further_keys() -> None:
    access = guarded()
    key, _ = access.issue("laptop", None, 60, now=0)
    assert denied(access, bearer(key), 1, ephemeral=False) == (401, "invalid_api_key")


def test_ephemeral_keys_are_forgotten_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "EPHEMERAL_LIMIT", 3)
    access = guarded()
    keys = [access.issue("laptop", None, seconds, now=0)[0] for seconds in (30, 10, 20, 40)]
    assert [key for key in keys if not opens(access, key, 1)] == [keys[1]], "the one that expires first gave way"
    access.issue("laptop", None, 10, now=100)
    assert len(access._ephemeral) == 1


def opens(access: Access, key: str, now: float) -> bool:
    try:
        return access.admit(bearer(key), now).key == "laptop"
    except Denied:
        return False


def test_nothing_that_is_stored_is_a_key() -> None:
    access = guarded()
    key, _ = access.issue("laptop", None, 60, now=0)
    assert not any(secret in repr(access) for secret in (KEY, OTHER, key))


@pytest.mark.parametrize(
    ("origin", "host", "with_keys", "without"),
    [
        (None, None, True, True),  # HTTP/1.0, no browser
        (None, "10.0.0.7:8000", True, True),
        (None, "app.example", True, True),  # the operator's name
        (None, "server.example", True, False),  # a GET of a page that perhaps made its own name point here
        (None, "127.0.0.1.evil.example:8000", True, False),
        (None, "[", True, False),
        ("http://[", "127.0.0.1:8000", False, False),
        ("https://app.example", "server.example", True, True),  # on the list
        ("https://evil.example", "server.example", False, False),
        ("https://evil.example", "127.0.0.1:8000", False, False),
        ("null", "127.0.0.1:8000", False, False),  # a sandboxed page, a file
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True, True),  # our own page
        ("http://[::1]:8000", "[::1]:8000", True, True),
        ("http://localhost:8000", "localhost:8000", True, True),
        ("http://localhost:3000", "localhost:8000", False, False),  # another program's page
        ("https://server.example:8443", "server.example", True, False),  # a proxy left the port out
        ("https://app.example/", "server.example", True, True),
        ("HTTPS://App.Example:443", "server.example", True, True),
        ("https://server.example", "server.example", True, False),  # perhaps a name that was made to point here
        ("https://app.example.evil.example", "server.example", False, False),
    ],
)
def test_pages_from_elsewhere_stay_out(origin: str | None, host: str | None, with_keys: bool, without: bool) -> None:
    opened = Access({}, frozenset({"https://app.example"}))
    for access, allowed in ((guarded(), with_keys), (opened, without)):
        if allowed:
            access.admit(bearer(KEY, origin, host), 0)
        else:
            elsewhere = origin is not None and origin.partition("://")[2].removesuffix(":8443") != host
            code = "origin_not_allowed" if elsewhere else "host_not_allowed"
            assert denied(access, bearer(KEY, origin, host)) == (403, code)


def test_a_star_allows_every_origin() -> None:
    Access({}, frozenset({"*"})).admit(Credentials(origin="https://evil.example", host="x"), 0)


def test_credentials_are_read_from_the_headers() -> None:
    headers = [(b"host", b"h:1"), (b"origin", b"http://o"), (b"authorization", b"bearer  k ")]
    found = credentials(headers, ["realtime"])
    assert found == Credentials("bearer  k ", ("realtime",), "http://o", "h:1")
    assert found.key == "k"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "fe80::1", "server.example"])
def test_other_machines_are_not_served_without_keys_by_accident(host: str) -> None:
    nothing = AccessConfig()
    with pytest.raises(ConfigError, match=r"no API keys.*vita-duplex key NAME.*access\.open=true"):
        refuse_exposure(host, nothing, load_access(nothing))
    refuse_exposure(host, AccessConfig(open=True), load_access(nothing))
    with_key = AccessConfig(keys={"laptop": hashed(KEY)})
    refuse_exposure(host, with_key, load_access(with_key))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    refuse_exposure(host, AccessConfig(), load_access(AccessConfig()))


def test_keys_come_from_the_settings_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(f"phone: {hashed(OTHER)}\n")
    access = load_access(AccessConfig(keys={"laptop": hashed(KEY)}, keys_file=file))
    assert access.admit(bearer(KEY), 0) == Caller("laptop")
    assert access.admit(bearer(OTHER), 0) == Caller("phone")


def test_a_key_in_the_clear_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="not a hash") as refused:
        load_access(AccessConfig(keys={"laptop": KEY}))
    assert KEY not in str(refused.value)


def test_a_file_of_keys_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_access(AccessConfig(keys_file=tmp_path / "none.yaml"))
