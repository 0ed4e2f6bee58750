"""Origins of web pages (RFC 6454), and which belong to the host that a request was sent to. Pure."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Host:
    """What a `Host` header says."""

    name: str
    port: int | None


def host(text: str) -> Host:
    """Empty where it cannot be read."""
    parts = split(f"//{text}")
    return Host(parts.hostname or "", _port(parts))


def origin(text: str) -> str:
    """As browsers write it: in lower case, without a path and the default port. Others (`null`, those of apps) stay."""
    parts = split(text)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return text.rstrip("/")
    port = _port(parts)
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{name}" + ("" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}")


def is_of(page: str, asked: Host) -> bool:
    """Whether a page of the origin `page` came from that host. Proxies leave the port out, or write the default one."""
    parts = split(page)
    default = DEFAULT_PORTS.get(parts.scheme)
    if default is None or not asked.name or (parts.hostname or "") != asked.name:
        return False
    return asked.port is None or asked.port == (_port(parts) or default)


def split(url: str) -> SplitResult:
    """The parts of what a client wrote; empty if it is no URL."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None
