"""The command line: `vita-duplex serve | key | ask | talk | voices | check | bench | timeline | replay …`."""

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import uvicorn
from tqdm import tqdm

from vita_duplex import __version__
from vita_duplex.cli import ask, bench, calibrate, check, replay
from vita_duplex.client import talk, timeline
from vita_duplex.config import Config, ConfigError
from vita_duplex.engine.ports import PartFailed, Progress
from vita_duplex.models.layouts import is_vita
from vita_duplex.server import voices
from vita_duplex.server.access import tls
from vita_duplex.server.access.auth import hashed, new_key, refuse_exposure
from vita_duplex.server.access.limits import MESSAGE_LIMIT
from vita_duplex.server.drain import CLOSE_S, DrainingServer
from vita_duplex.server.http.app import create_app
from vita_duplex.server.observe import logs, traces
from vita_duplex.server.parts import prepare, settings_of
from vita_duplex.server.realtime.websocket import FairWebSocket
from vita_duplex.server.server import Server
from vita_duplex.settings import load_config

FLAGS = (
    ("host", "server.host"),
    ("port", "server.port"),
    ("instances", "engine.instances"),
    ("tls_certificate", "server.tls_certificate"),
    ("tls_key", "server.tls_key"),
    ("self_signed", "server.self_signed"),
)
"""Short forms of settings."""
UNREAD_LIMIT_MS = 30_000
"""After this long the kernel ends a connection whose client takes nothing of what it is sent. Without it a closed
connection would keep its memory for as long as such a client likes, for closing waits until everything is sent."""
BAR = "{desc:<32} {bar:30} {n:3.0f} %  {elapsed}"


def main() -> None:
    """Entry point. Whatever is wrong with the call or the settings ends in one line and exit code 2."""
    arguments = _parser().parse_args()
    try:
        sys.exit(arguments.run(arguments))
    except ConfigError as error:
        sys.exit(_complain(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vita-duplex",
        description="Talk with a multimodal model: it listens while it speaks.",
        epilog="Start with `vita-duplex serve` and open http://127.0.0.1:8000 in a browser.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve the page and the WebSocket API",
        description="Serve the talk page at / and the OpenAI Realtime API at /v1/realtime.",
        epilog="Every setting can be given as --set section.key=value or as an environment variable, for example "
        "--set duplex.barge_in=verdict or VITA_DUPLEX_SERVER__PORT=9000.",
    )
    _add_config(serve)
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", help="port to listen on (default 8000)")
    serve.add_argument(
        "--model",
        help="a VITA checkpoint or a text model: local folder or Hugging Face id (default: the bundled SmolLM2)",
    )
    serve.add_argument("--instances", help="engines; with two, generator and monitor sit on different ones (default 1)")
    serve.add_argument("--tls-certificate", metavar="PEM", help="serve https with this certificate chain")
    serve.add_argument("--tls-key", metavar="PEM", help="private key of the certificate")
    serve.add_argument(
        "--self-signed",
        action="store_const",
        const="true",
        help="serve https with a certificate made here, so that browsers in the LAN give the microphone",
    )
    serve.set_defaults(run=_serve)
    key = commands.add_parser(
        "key", help="make an API key", description="Print a new API key, and its hash for the settings."
    )
    key.add_argument("name", help="who will use it; limits count by it")
    key.set_defaults(run=_key)
    asking = commands.add_parser("ask", help="ask a model one question about a picture, a film or a sound")
    ask.add_arguments(asking)
    _add_config(asking)
    asking.set_defaults(run=_ask)
    preparing = commands.add_parser(
        "prepare",
        help="make the models of a configuration ready, once",
        description="Unpack the bundled language model into the cache. `serve` does it, too, if it was not done.",
    )
    _add_config(preparing)
    preparing.set_defaults(run=_prepare)
    talking = commands.add_parser("talk", help="play a recording to a running server and keep the answer")
    talk.add_arguments(talking)
    talking.set_defaults(run=talk.run)
    listing = commands.add_parser("voices", help="list the voices, and which of them could be used here")
    _add_config(listing)
    listing.add_argument("--measure", action="store_true", help="time the chosen voice instead")
    listing.set_defaults(run=lambda arguments: voices.run(_config(arguments), measure=arguments.measure))
    checking = commands.add_parser("check", help="say what is installed and whether it would run")
    _add_config(checking)
    checking.set_defaults(run=lambda arguments: check.run(_config(arguments)))
    benching = commands.add_parser("bench", help="measure latency, memory and idle CPU of a configuration")
    bench.add_arguments(benching)
    benching.set_defaults(run=bench.run)
    calibrating = commands.add_parser("calibrate", help="find the verdict threshold that suits labelled recordings")
    calibrate.add_arguments(calibrating)
    _add_config(calibrating)
    calibrating.set_defaults(run=_calibrate)
    drawing = commands.add_parser("timeline", help="draw a session log")
    timeline.add_arguments(drawing)
    drawing.set_defaults(run=timeline.run)
    replaying = commands.add_parser("replay", help="check that a session log leads to the same decisions again")
    replay.add_arguments(replaying)
    replaying.set_defaults(run=replay.run)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML file with settings; `make serve` takes configs/cpu.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting")


def _config(arguments: argparse.Namespace) -> Config:
    settings = list(arguments.set)
    for flag, key in FLAGS:
        if getattr(arguments, flag, None) is not None:
            settings.append(f"{key}={getattr(arguments, flag)}")
    config = load_config(arguments.config, os.environ, settings)
    model = getattr(arguments, "model", None)
    if model is None:
        return config
    kind = "vita" if config.engine.kind == "vita" or is_vita(settings_of(Path(model)) or {}) else "text"
    return load_config(arguments.config, os.environ, [*settings, f"engine.kind={kind}", f"engine.{kind}.model={model}"])


def _serve(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    logs.configure(config.observe.logs)
    server = Server(config)
    refuse_exposure(config.server.host, config.access, server.access)
    if config.observe.traces:
        server.tracer = traces.open_tracer()
    try:
        # Bound before anything is loaded: a taken port is told at once, not after a minute.
        listening = listen(config.server.host, config.server.port)
    except OSError as error:
        where = f"{config.server.host}:{config.server.port}"
        return _complain(f"cannot listen on {where}: {error.strerror}; choose another with --port")
    port = listening.getsockname()[1]
    certificate, key = config.server.tls_certificate, config.server.tls_key
    if config.server.self_signed:
        certificate, key = tls.certificate(config.engine.cache / "tls", config.server.host)
    if certificate and key:
        tls.check(certificate, key)
    runner = DrainingServer(
        uvicorn.Config(
            create_app(server),
            log_config=None,  # as ours
            log_level="warning",
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ws=FairWebSocket,
            ws_max_size=MESSAGE_LIMIT,
            ws_per_message_deflate=False,  # audio does not shrink; trying costs a fifth of the CPU
            timeout_graceful_shutdown=CLOSE_S,
        ),
        server,
    )
    # uvicorn raises the signal once more when all is shut down; being asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.on_failure = lambda: setattr(runner, "should_exit", True)
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    address = f"{'https' if certificate else 'http'}://{host}:{port}"
    print(f"vita-duplex: {address} (Ctrl-C stops; while the models load, the page shows how far)", flush=True)
    with ExitStack() as stack:
        if sys.stderr.isatty():
            server.on_progress = stack.enter_context(_progress_bar())
        runner.run(sockets=[listening])
    return 1 if server.loading.error else 0


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


def _key(arguments: argparse.Namespace) -> int:
    key = new_key()
    print(f"{key}\n\nGive this to {arguments.name}; it is stored nowhere. The server gets its hash, under access.keys")
    print(f"in its settings or in the file named by access.keys_file:\n\n{arguments.name}: {hashed(key)}")
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    try:
        with _progress_bar() as progress:
            return ask.run(arguments, _config(arguments), progress)
    except ask.AskError as error:
        return _complain(str(error))


def _calibrate(arguments: argparse.Namespace) -> int:
    try:
        with _progress_bar() as progress:
            return calibrate.run(arguments, _config(arguments), progress)
    except calibrate.CalibrateError as error:
        return _complain(str(error))


def _prepare(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    try:
        with _progress_bar() as progress:
            prepare(config.engine, progress)
    except PartFailed as failure:
        return _complain(str(failure))
    return 0


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A bar for people; logs and containers get a line per phase instead."""
    logging.getLogger("vita_duplex.server.http.app").setLevel(logging.WARNING)
    with ExitStack() as stack:
        bars: list[tqdm[NoReturn]] = []

        def show(share: float, phase: str) -> None:
            if not bars:  # what fails before anything is loaded needs no bar
                bars.append(stack.enter_context(tqdm(total=100, bar_format=BAR)))
            bars[0].set_description_str(phase, refresh=False)
            bars[0].update(100 * share - bars[0].n)
            if share == 1:
                bars[0].close()

        yield show


def _complain(message: str) -> int:
    print(f"vita-duplex: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
