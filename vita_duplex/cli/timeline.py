"""`vita-duplex timeline`: draws a session log."""

import argparse
import sys
from pathlib import Path

from vita_duplex.client.timeline import of_log
from vita_duplex.client.timeline_picture import draw
from vita_duplex.engine.session_log import LogError, read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draw a session log: who spoke, what was decided, what was generated, sent and heard."
    parser.epilog = "exit status: 0 drawn; 2 no log that can be read, or the picture cannot be written"
    parser.add_argument("log", type=Path, metavar="LOG", help="a session log (setting server.session_logs)")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("timeline.svg"),
        metavar="PICTURE.svg",
        help="where to draw it, as SVG, which browsers show (default: timeline.svg)",
    )


def run(args: argparse.Namespace) -> int:
    """`vita-duplex timeline`."""
    try:
        if args.out.suffix != ".svg":
            raise LogError(f"cannot draw {args.out}: its name has to end in .svg")
        draw(of_log(read(args.log), args.log.stem)).write(args.out)
    except LogError as error:
        print(f"vita-duplex timeline: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"vita-duplex timeline: cannot write {args.out}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0
