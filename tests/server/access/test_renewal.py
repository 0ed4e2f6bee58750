"""Keys and certificates replaced while the server runs."""

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.sockets import scripted_server
from vita_duplex.server.access import tls
from vita_duplex.server.access.auth import Credentials, Denied, hashed, new_key
from vita_duplex.server.server import Server

KEY, OTHER = new_key(), new_key()


def opens(server: Server, key: str) -> bool:
    try:
        server.access.admit(Credentials(f"Bearer {key}"), 0)
        return True
    except Denied:
        return False


def replaced(file: Path, text: str) -> None:
    """As Kubernetes and careful people do it: a new file in the place of the old one."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.yaml"
    file.write_text(f"laptop: {hashed(KEY)}\n")
    return file


def test_a_key_is_added_and_another_taken_away_without_a_restart(keys: Path) -> None:
    server = scripted_server(access={"keys_file": keys})
    [renewal] = server.renewals
    ephemeral, _ = server.access.issue("laptop", None, 60, 0)
    assert (opens(server, KEY), opens(server, ephemeral), opens(server, OTHER)) == (True, True, False)
    replaced(keys, f"phone: {hashed(OTHER)}\n")
    renewal.look()
    assert (opens(server, KEY), opens(server, ephemeral), opens(server, OTHER)) == (False, False, True)


@pytest.mark.parametrize(
    "broken", ["", "laptop: in the clear\n", "- [", None], ids=["empty", "no hash", "no YAML", "gone"]
)
def test_a_broken_file_of_keys_leaves_the_old_ones_and_is_looked_at_again(
    keys: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    server = scripted_server(access={"keys_file": keys})
    [renewal] = server.renewals
    if broken is None:
        keys.unlink()
    else:
        replaced(keys, broken)
    renewal.look()
    renewal.look()
    assert (opens(server, KEY), opens(server, ""), opens(server, OTHER)) == (True, False, False)
    assert len(caplog.records) == 1
    replaced(keys, f"laptop: {hashed(KEY)}\nphone: {hashed(OTHER)}\n")
    renewal.look()
    assert (opens(server, KEY), opens(server, OTHER)) == (True, True)


def test_a_certificate_is_replaced_for_new_connections_and_half_a_one_is_not_used(tmp_path: Path) -> None:
    certificate, key = tls.certificate(tmp_path / "old", "old.example")
    fresh_certificate, fresh_key = tls.certificate(tmp_path / "new", "new.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    renewal = tls.renewal(certificate, key, lambda: context)
    replaced(certificate, fresh_certificate.read_text())
    renewal.look()
    assert "old.example" in names_shown(context), "the key does not fit yet"
    replaced(key, fresh_key.read_text())
    renewal.look()
    assert "new.example" in names_shown(context)


def names_shown(context: ssl.SSLContext) -> list[str]:
    """The names in the certificate that a client gets, by a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server) * 3:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    der = client.getpeercert(binary_form=True)
    assert der is not None
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)
