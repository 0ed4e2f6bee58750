"""A self-signed certificate, so that browsers in the LAN give a page the microphone (they do over https only)."""

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vita_duplex.config import ConfigError
from vita_duplex.server.access.renewal import Renewal

VALID = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)

Name = x509.DNSName | x509.IPAddress


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """PEM files of certificate and key in `folder`: those of last time if they still fit, else new ones."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = _names(host)
    if not _fits(certificate, key, names):
        folder.mkdir(parents=True, exist_ok=True)
        _make(certificate, key, names)
    return certificate, key


def check(certificate: Path, key: Path) -> None:
    """Errors: `ConfigError` if the two cannot be used."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # also what OpenSSL says about them
        message = f"{certificate} and {key} cannot be used for https: {error.strerror or error}"
        raise ConfigError(message) from error


def renewal(certificate: Path, key: Path, context: Callable[[], ssl.SSLContext | None]) -> Renewal:
    """A replaced certificate serves the connections that begin after it; `context` is the web server's."""

    def apply() -> None:
        check(certificate, key)
        if (served := context()) is not None:
            served.load_cert_chain(certificate, key)

    return Renewal([certificate, key], apply)


def _names(host: str) -> list[Name]:
    """What this machine may be called by a browser."""
    addresses = {"127.0.0.1", "::1"}
    for interface in psutil.net_if_addrs().values():
        addresses |= {
            one.address.partition("%")[0] for one in interface if one.family in (socket.AF_INET, socket.AF_INET6)
        }
    texts = {"localhost", socket.gethostname(), host}
    for text in list(texts):
        try:
            addresses.add(str(ipaddress.ip_address(text)))
            texts.remove(text)
        except ValueError:
            pass
    ips = sorted((ipaddress.ip_address(address) for address in addresses), key=str)
    return [*map(x509.DNSName, sorted(texts)), *map(x509.IPAddress, ips)]


def _fits(certificate: Path, key: Path, names: list[Name]) -> bool:
    """Whether it is for these names, and will be for a while."""
    if not (certificate.is_file() and key.is_file()):
        return False
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        known = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    lasts = found.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return lasts > RENEW_BEFORE and set(names) <= set(known)


def _make(certificate: Path, key: Path, names: list[Name]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vita-duplex, self-signed")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks in a LAN differ
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key.unlink(missing_ok=True)
    with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # nobody else may read it
        file.write(pem)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
