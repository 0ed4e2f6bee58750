"""`vita-duplex serve`: the server, from its settings to its socket."""

import argparse
import logging
import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from vita_duplex.cli.options import add_settings, config_of
from vita_duplex.cli.progress import progress_bar
from vita_duplex.config import Config, ConfigError
from vita_duplex.server.access import tls
from vita_duplex.server.access.auth import refuse_exposure
from vita_duplex.server.access.limits import MESSAGE_LIMIT
from vita_duplex.server.drain import CLOSE_S, DrainingServer
from vita_duplex.server.http.app import create_app
from vita_duplex.server.http.patience import PatientHttp
from vita_duplex.server.observe import logs, traces
from vita_duplex.server.realtime.websocket import FairWebSocket
from vita_duplex.server.server import Server
from vita_duplex.settings import of_kubernetes

log = logging.getLogger(__name__)

UNREAD_LIMIT_MS = 30_000
"""After this long the kernel ends a connection whose client takes nothing of what it is sent. Without it a closed
connection would keep its memory for as long as such a client likes, for closing waits until everything is sent."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser)
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (default 8000)")
    parser.add_argument(
        "--model",
        help="a VITA checkpoint or a text model: local folder or Hugging Face id (default: the bundled SmolLM2)",
    )
    parser.add_argument(
        "--instances", help="engines; with two, generator and monitor sit on different ones (default 1)"
    )
    parser.add_argument("--tls-certificate", metavar="PEM", help="serve https with this certificate chain")
    parser.add_argument("--tls-key", metavar="PEM", help="private key of the certificate")
    parser.add_argument(
        "--self-signed",
        action="store_const",
        const="true",
        help="serve https with a certificate made here, so that browsers in the LAN give the microphone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes. Errors: `ConfigError`."""
    config = config_of(arguments)
    logs.configure(config.observe.logs)
    if names := of_kubernetes(os.environ):
        log.info("ignored, as they come from a Kubernetes Service called vita-duplex: %s", ", ".join(names))
    server = Server(config)
    for address in (config.server.host, *filter(None, [config.telephony.audiosocket_host])):
        refuse_exposure(address, config.access, server.access)
    if config.observe.traces:
        server.tracer = traces.open_tracer()
    listening = _bound(
        config.server.host, config.server.port
    )  # before anything is loaded: a taken port is told at once
    certificate, key = _certificate(config)
    runner = _runner(server, certificate, key)
    if certificate and key:
        server.renewals.append(tls.renewal(certificate, key, lambda: runner.config.ssl))
    server.on_failure = lambda: setattr(runner, "should_exit", True)
    # uvicorn raises the signal once more when all is shut down; being asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    address = f"{'https' if certificate else 'http'}://{host}:{listening.getsockname()[1]}"
    print(f"vita-duplex: {address} (Ctrl-C stops; while the models load, the page shows how far)", flush=True)
    if config.server.self_signed:
        print(
            f"vita-duplex: clients trust NODE_EXTRA_CA_CERTS={certificate} or SSL_CERT_FILE={certificate}", flush=True
        )
    with ExitStack() as stack:
        if sys.stderr.isatty():
            server.on_progress = stack.enter_context(progress_bar())
        runner.run(sockets=[listening])
    return 1 if server.loading.error else 0


def _bound(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error


def listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections wait neither for ever for a client that reads nothing, nor for the
    acknowledgement of one event before the next is sent: together with the client's delayed acknowledgements that
    costs 40 ms an event. asyncio says so only to connections whose socket names TCP as its protocol."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listening = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=both)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; the same
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_LIMIT_MS)
    return listening


def _certificate(config: Config) -> tuple[Path | None, Path | None]:
    """The certificate and its key, where the server speaks https. Errors: `ConfigError`."""
    certificate, key = config.server.tls_certificate, config.server.tls_key
    if config.server.self_signed:
        certificate, key = tls.certificate(config.engine.cache / "tls", config.server.host)
    if certificate and key:
        tls.check(certificate, key)
    return certificate, key


def _runner(server: Server, certificate: Path | None, key: Path | None) -> DrainingServer:
    return DrainingServer(
        uvicorn.Config(
            create_app(server),
            log_config=None,  # as ours
            log_level="warning",
            ssl_certfile=certificate,
            ssl_keyfile=key,
            forwarded_allow_ips=list(server.config.access.proxies),
            http=PatientHttp,
            ws=FairWebSocket,
            ws_max_size=MESSAGE_LIMIT,
            ws_per_message_deflate=False,  # audio does not shrink; trying costs a fifth of the CPU
            timeout_graceful_shutdown=CLOSE_S,
        ),
        server,
    )
