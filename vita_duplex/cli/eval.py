"""`vita-duplex eval`: public sets of speech into replies, played to a server that speaks the Realtime protocol."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from vita_duplex.cli.eval_clips import listen
from vita_duplex.cli.eval_layouts import Clip, EvalError, read
from vita_duplex.cli.eval_scores import HEADS, Score, groups, report, score
from vita_duplex.client.connection import ABILITIES, URL, Address
from vita_duplex.client.errors import TalkError
from vita_duplex.client.talk import table

EXPLAINED = """\
right: what the set wants, with its 95 % interval. silent: no reply was being heard when the clip spoke into it; these
are not counted. silence: from the onset of an interruption until the reply is silent; pause: silence in a reply that
goes on; response: from the end of an interruption to the next reply; each median and 95th percentile. penalty:
SID-Bench's average penalty time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a set as it is published; docs/evaluation.md says where to get it")
    parser.add_argument("--url", default=URL, help=f"the server (default: {URL})")
    parser.add_argument("--api-key", default=os.environ.get("VITA_API_KEY"), help="default: $VITA_API_KEY")
    parser.add_argument("--most", type=int, metavar="N", help="of each scenario only the first N clips")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="sessions at the same time (default: 1)")
    parser.add_argument("--stock", action="store_true", help="as a client that knows no hold, and for other servers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, clip by clip")


def run(arguments: argparse.Namespace) -> int:
    """Errors: `EvalError`."""
    clips = _first(read(arguments.folder), arguments.most)
    if arguments.json and not arguments.json.parent.is_dir():
        raise EvalError(f"cannot write {arguments.json}: there is no folder {arguments.json.parent}")
    address = Address(arguments.url, arguments.api_key, {} if arguments.stock else ABILITIES)
    tell(*asyncio.run(play(address, clips, max(1, arguments.at_once))), arguments.json)
    return 0


def tell(scores: Sequence[Score], failed: Sequence[tuple[str, str]], file: Path | None) -> None:
    """Print a table, and write all of it. Errors: `EvalError`."""
    for name, why in failed:
        print(f"{name}: {why}", file=sys.stderr)
    if file:
        file.write_text(json.dumps(report(scores, failed), indent=2) + "\n", encoding="utf-8")
    if not scores:
        raise EvalError("no clip could be played")
    print(f"{table([HEADS, *(group.row() for group in groups(scores))])}\n\n{EXPLAINED}")


async def play(address: Address, clips: Sequence[Clip], at_once: int) -> tuple[list[Score], list[tuple[str, str]]]:
    """The scores, and of clips that could not be played why."""
    scores: list[Score] = []
    failed: list[tuple[str, str]] = []
    waiting = iter(clips)
    with tqdm(total=len(clips), unit="clip", disable=not sys.stderr.isatty()) as bar:

        async def work() -> None:
            for clip in waiting:
                try:
                    scores.append(score(await listen(address, clip)))
                except (TalkError, OSError, TimeoutError) as error:
                    failed.append((f"{clip.group}/{clip.name}", str(error) or type(error).__name__))
                bar.update()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(work())
    return sorted(scores, key=lambda one: (one.group, one.name)), failed


def _first(clips: Sequence[Clip], most: int | None) -> list[Clip]:
    taken: dict[str, int] = {}
    chosen = []
    for clip in clips:
        taken[clip.group] = taken.get(clip.group, 0) + 1
        if most is None or taken[clip.group] <= most:
            chosen.append(clip)
    return chosen
