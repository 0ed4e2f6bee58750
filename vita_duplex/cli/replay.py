"""`vita-duplex replay`: feeds a session log through the core and compares what it decides."""

import argparse
import sys
from pathlib import Path

from vita_duplex import __version__
from vita_duplex.engine.session_log import LogError, read, replay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Feed the events of a session log through the duplex core at the recorded times. Its commands must be the "
        "logged ones, byte for byte. No model and no audio is needed."
    )
    parser.epilog = "exit status: 0 the same; 1 a difference, the first one is printed; 2 no log that can be read"
    parser.add_argument("log", type=Path, metavar="LOG", help="a session log (setting server.session_logs)")


def run(args: argparse.Namespace) -> int:
    """`vita-duplex replay`."""
    try:
        log = read(args.log)
    except LogError as error:
        print(f"vita-duplex replay: {error}", file=sys.stderr)
        return 2
    if log.cut:
        print("the last line was not written to the end and is left out")
    difference = replay(log)
    if difference is None:
        print(f"the same: {len(log.steps)} steps")
        return 0
    print(f"line {difference.line} differs\n  logged    {difference.logged}\n  replayed  {difference.replayed}")
    if log.header.version != __version__:
        print(f"the log is of version {log.header.version}, this is {__version__}")
    return 1
