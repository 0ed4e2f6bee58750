"""Who may come in: API keys, ephemeral keys, the origins of web pages. Pure; times are in seconds.

Keys are stored as SHA-256 hashes. They are random 256 bit numbers of our own making, so unlike passwords they need
no slow hash: there is nothing to guess.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from vita_duplex.config import AccessConfig, ConfigError
from vita_duplex.server.access import origins
from vita_duplex.settings import read_yaml

HASH = re.compile(r"sha256:[0-9a-f]{64}")
EPHEMERAL_LIMIT = 10_000
"""Ephemeral keys that may be valid at the same time. When it is full the one that expires first gives way."""
SUBPROTOCOL_KEY = "openai-insecure-api-key."
"""Browsers cannot set headers on a WebSocket; OpenAI's way is a subprotocol that begins like this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the key's name (None where no keys are configured), and the session's settings that an ephemeral key
    brings."""

    key: str | None
    session: BaseModel | None = None


class Denied(Exception):
    """This request gets nothing: 401 (no or a wrong key) or 403 (a web page from elsewhere)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What of a request says who asks: header values, and the subprotocols a WebSocket offers."""

    authorization: str | None = None
    subprotocols: tuple[str, ...] = ()
    origin: str | None = None
    host: str | None = None

    @property
    def key(self) -> str | None:
        scheme, _, key = (self.authorization or "").partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return key.strip()
        for subprotocol in self.subprotocols:
            if subprotocol.startswith(SUBPROTOCOL_KEY):
                return subprotocol.removeprefix(SUBPROTOCOL_KEY)
        return None


@dataclass(frozen=True, slots=True)
class EphemeralKey:
    owner: str | None
    expires: float
    session: BaseModel | None


@dataclass(slots=True)
class Access:
    """Decides about requests."""

    hashes: Mapping[str, str]
    """Of the API keys, by their names. Empty: everybody may come in."""
    origins: frozenset[str] = frozenset()
    """Web pages that may use this server, besides those it serves itself."""
    _ephemeral: dict[str, EphemeralKey] = field(default_factory=dict, init=False)

    def admit(self, credentials: Credentials, now: float, *, ephemeral: bool = True) -> Caller:
        """Errors: `Denied`. `ephemeral`: whether such a key will do."""
        self._check_origin(credentials)
        key = credentials.key
        if key is not None and ephemeral and (found := self._find_ephemeral(key, now)):
            return Caller(found.owner, found.session)
        if not self.hashes:
            return Caller(None)
        if key is None:
            raise Denied(401, "missing_api_key", "This server wants an API key: Authorization: Bearer …")
        name = self._find(key)
        if name is None:
            raise Denied(401, "invalid_api_key", "This API key is not known here, or has expired.")
        return Caller(name)

    def renew(self, hashes: Mapping[str, str]) -> None:
        """Other API keys from now on; ephemeral keys of those that are gone open nothing any more. Errors:
        `ConfigError` for none at all, which would let everybody in."""
        if self.hashes and not hashes:
            raise ConfigError("no key is left, which would let everybody in")
        self.hashes = hashes

    def issue(self, owner: str | None, session: BaseModel | None, lifetime_s: float, now: float) -> tuple[str, float]:
        """A new ephemeral key and when it expires."""
        self._ephemeral = {hash_: key for hash_, key in self._ephemeral.items() if key.expires > now}
        if len(self._ephemeral) >= EPHEMERAL_LIMIT:
            del self._ephemeral[min(self._ephemeral, key=lambda hash_: self._ephemeral[hash_].expires)]
        key = f"ek_{secrets.token_urlsafe(32)}"
        self._ephemeral[hashed(key)] = EphemeralKey(owner, now + lifetime_s, session)
        return key, now + lifetime_s

    def _find(self, key: str) -> str | None:
        """The name of a key. Takes equally long whether and wherever it is found."""
        found, wanted = None, hashed(key)
        for name, known in self.hashes.items():
            if hmac.compare_digest(known, wanted):
                found = name
        return found

    def _find_ephemeral(self, key: str, now: float) -> EphemeralKey | None:
        # Looked up by its hash: how long that takes tells nothing about the key.
        found = self._ephemeral.get(hashed(key))
        if found is None or now >= found.expires or (found.owner is not None and found.owner not in self.hashes):
            return None
        return found

    def _check_origin(self, credentials: Credentials) -> None:
        """Browsers send `Origin`; without this check every web page could talk through its visitor's browser. With a
        GET of their own page they send none, so the host counts as well: without keys it must be an address or a name
        of the operator's, for a name of somebody else's may point here, too (DNS rebinding). Errors: `Denied`."""
        origin, host = credentials.origin, origins.host((credentials.host or "").lower())
        if "*" in self.origins or (origin is not None and origins.origin(origin) in self.origins):
            return
        if origin is not None and not origins.is_of(origin, host):
            named = f"it was asked as {credentials.host}, and the operator can add the origin to access.origins"
            raise Denied(403, "origin_not_allowed", f"Pages from {origin} may not use this server: {named}.")
        known = _is_address(host.name) or any(origins.is_of(one, host) for one in self.origins)
        if not (self.hashes or not credentials.host or known):
            named = f"the operator can add its origin, such as https://{host.name}, to access.origins"
            message = f"Without API keys nobody is answered under the name {host.name}: {named}."
            raise Denied(403, "host_not_allowed", message)


def new_key() -> str:
    return f"sk-{secrets.token_urlsafe(32)}"


def hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def load_access(config: AccessConfig) -> Access:
    """The keys of the settings and of their file. Errors: `ConfigError`."""
    hashes: dict[str, str] = {**(read_yaml(config.keys_file) if config.keys_file else {}), **config.keys}
    for name, hash_ in hashes.items():
        if not isinstance(hash_, str) or not HASH.fullmatch(hash_):
            raise ConfigError(f"access.keys.{name}: not a hash; make a key and its hash with `vita-duplex key {name}`")
    return Access(hashes, frozenset(map(origins.origin, config.origins)))


def refuse_exposure(host: str, config: AccessConfig, access: Access) -> None:
    """Whoever serves others than this machine without keys has to say so. Errors: `ConfigError`."""
    if access.hashes or config.open or _is_loopback(host):
        return
    raise ConfigError(
        f"{host} can be reached from other machines and no API keys are configured: make one with "
        "`vita-duplex key NAME`, or serve everybody with --set access.open=true"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def credentials(headers: Iterable[tuple[bytes, bytes]], subprotocols: Iterable[str] = ()) -> Credentials:
    """Of an ASGI scope."""
    values = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return Credentials(values.get("authorization"), tuple(subprotocols), values.get("origin"), values.get("host"))
