"""The command line: `vita-duplex serve | key | ask | talk | voices | settings | check | bench | timeline …`."""

import argparse
import sys
from uuid import uuid4

from threadpoolctl import ThreadpoolController

from vita_duplex import __version__
from vita_duplex.cli import ask, bench, calibrate, check, data, eval, replay, serve, settings, timeline, train
from vita_duplex.cli.eval_layouts import EvalError
from vita_duplex.cli.options import add_settings, config_of
from vita_duplex.cli.progress import progress_bar
from vita_duplex.client import talk
from vita_duplex.config import ConfigError
from vita_duplex.engine.ports import PartFailed
from vita_duplex.server import voices
from vita_duplex.server.access.auth import hashed, new_key
from vita_duplex.server.parts import prepare


def main() -> None:
    """Entry point. Whatever is wrong with the call or the settings ends in one line and exit code 2."""
    arguments = _parser().parse_args()
    # Of two threads of numpy's OpenBLAS one waits in a loop: the detector would take twice the CPU time.
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    try:
        sys.exit(arguments.run(arguments))
    except (ConfigError, ask.AskError, calibrate.CalibrateError, EvalError, train.TrainError, PartFailed) as error:
        print(f"vita-duplex: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


class _Commands:
    """The commands, as they are told."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(self, name: str, help: str, run: object, *, about: str | None = None) -> argparse.ArgumentParser:
        parser = self._parsers.add_parser(name, help=help, description=about)
        parser.set_defaults(run=run)
        return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vita-duplex",
        description="Talk with a multimodal model: it listens while it speaks.",
        epilog="Start with `vita-duplex serve` and open http://127.0.0.1:8000 in a browser.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = _Commands(parser)
    _add_serving(commands)
    _add_asking(commands)
    _add_looking(commands)
    _add_measuring(commands)
    _add_teaching(commands)
    return parser


def _add_serving(commands: _Commands) -> None:
    about = "Serve the talk page at / and the OpenAI Realtime API at /v1/realtime."
    serving = commands.add("serve", "serve the page and the WebSocket API", serve.run, about=about)
    serving.epilog = "`vita-duplex settings` lists what can be given as --set section.key=value or in the environment."
    serve.add_arguments(serving)
    about = "Print a new API key, and its hash for the settings."
    key = commands.add("key", "make an API key", _key, about=about)
    key.add_argument("name", help="who will use it; limits count by it")
    key.add_argument("--uuid", action="store_true", help="a key that Asterisk can give as the UUID of a call")
    about = "Unpack the bundled language model into the cache. `serve` does it, too, if it was not done."
    add_settings(commands.add("prepare", "make the models of a configuration ready, once", _prepare, about=about))


def _add_asking(commands: _Commands) -> None:
    asking = commands.add("ask", "ask a model one question about a picture, a film or a sound", _ask)
    ask.add_arguments(asking)
    add_settings(asking)
    talk.add_arguments(commands.add("talk", "play a recording to a running server and keep the answer", talk.run))


def _add_looking(commands: _Commands) -> None:
    settings.add_arguments(commands.add("settings", "say what can be set, and how", settings.run))
    listing = commands.add("voices", "list the voices, and which of them could be used here", _voices)
    listing.add_argument("--measure", action="store_true", help="time the chosen voice instead")
    add_settings(listing)
    checks = commands.add("check", "say what is installed and whether it would run", _check)
    add_settings(checks)
    checks.add_argument("--node", action="store_true", help="also whether the GPUs of this machine hold the model")
    checks.add_argument("--model", help="a model to look at: what it is, needs and can, and how it is asked")


def _add_measuring(commands: _Commands) -> None:
    about = "measure latency, memory and idle CPU of a configuration"
    bench.add_arguments(commands.add("bench", about, bench.run))
    calibrating = commands.add("calibrate", "find the verdict threshold that suits labelled recordings", _calibrate)
    calibrate.add_arguments(calibrating)
    add_settings(calibrating)
    about = "Play a public set of speech into replies to a running server, and count what it does."
    eval.add_arguments(commands.add("eval", "measure a running server on a public set", eval.run, about=about))
    timeline.add_arguments(commands.add("timeline", "draw a session log", timeline.run))
    about = "check that a session log leads to the same decisions again"
    replay.add_arguments(commands.add("replay", about, replay.run))


def _add_teaching(commands: _Commands) -> None:
    data.add_arguments(commands.add("data", "check, count, convert and make training data", data.run))
    train.add_arguments(commands.add("train", "teach a VITA checkpoint", train.run))


def _key(arguments: argparse.Namespace) -> int:
    key = str(uuid4()) if arguments.uuid else new_key()
    print(f"{key}\n\nGive this to {arguments.name}; it is stored nowhere. The server gets its hash, under access.keys")
    print(f"in its settings or in the file named by access.keys_file:\n\n{arguments.name}: {hashed(key)}")
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    with progress_bar() as progress:
        return ask.run(arguments, config_of(arguments), progress)


def _calibrate(arguments: argparse.Namespace) -> int:
    with progress_bar() as progress:
        return calibrate.run(arguments, config_of(arguments), progress)


def _prepare(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    with progress_bar() as progress:
        prepare(config.engine, progress)
    return 0


def _voices(arguments: argparse.Namespace) -> int:
    return voices.run(config_of(arguments), measure=arguments.measure)


def _check(arguments: argparse.Namespace) -> int:
    return check.run(config_of(arguments), node=arguments.node)


if __name__ == "__main__":
    main()
