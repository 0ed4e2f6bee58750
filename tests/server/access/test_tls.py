"""Self-signed certificates, and https with them."""

import asyncio
import datetime
import ipaddress
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from vita_duplex.config import ConfigError
from vita_duplex.server.access import tls
from vita_duplex.settings import load_config


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_certificate_is_for_the_names_and_addresses_of_this_machine(tmp_path: Path) -> None:
    certificate, key = tls.certificate(tmp_path / "new", "speech.example")
    names = load(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "speech.example"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {ipaddress.ip_address(text) for text in ("127.0.0.1", "::1")}
    assert addresses <= set(names.get_values_for_type(x509.IPAddress))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_it_is_kept_as_long_as_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tls.certificate(tmp_path, "0.0.0.0")[0])
    assert load(tls.certificate(tmp_path, "0.0.0.0")[0]) == first
    other_name = load(tls.certificate(tmp_path, "speech.example")[0])
    assert other_name != first
    monkeypatch.setattr(tls, "RENEW_BEFORE", datetime.timedelta(days=364, hours=23, minutes=59, seconds=59))
    (tmp_path / "certificate.pem").write_text("broken")
    assert load(tls.certificate(tmp_path, "speech.example")[0]) != other_name
    (tmp_path / "key.pem").unlink()
    tls.certificate(tmp_path, "speech.example")
    assert (tmp_path / "key.pem").is_file()


def test_a_client_that_knows_the_certificate_trusts_the_server(tmp_path: Path) -> None:
    certificate, key = tls.certificate(tmp_path, "127.0.0.1")

    async def script() -> None:
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(certificate, key)
        ours = ssl.create_default_context(cafile=str(certificate))
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=theirs)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours)
            await reader.read()
            writer.close()

    asyncio.run(script())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["server.tls_key=key.pem"], "tls_certificate and tls_key belong together"),
        (["server.tls_certificate=c", "server.tls_key=k", "server.self_signed=true"], "self_signed makes its own"),
    ],
)
def test_half_a_certificate_is_an_error(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {}, settings)


def test_files_that_are_no_certificate_are_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        tls.check(tmp_path / "none.pem", tmp_path / "none.pem")
    certificate, key = tls.certificate(tmp_path, "127.0.0.1")
    tls.check(certificate, key)
    key.write_text("broken")
    with pytest.raises(ConfigError, match="cannot be used for https"):
        tls.check(certificate, key)
