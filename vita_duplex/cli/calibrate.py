"""`vita-duplex calibrate`: labelled clips through the configured instance's verdict, to find a threshold."""

import argparse
import asyncio
import csv
import re
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vita_duplex.cli.roc_picture import draw
from vita_duplex.client.errors import TalkError
from vita_duplex.client.recording import read_recording
from vita_duplex.client.talk import table
from vita_duplex.config import Config
from vita_duplex.engine import session_log
from vita_duplex.engine.audio import Samples
from vita_duplex.engine.duplex import ABSTAIN_BAND
from vita_duplex.engine.duplex_settings import DuplexSettings
from vita_duplex.engine.messages import Query, Situation, Utterance, Verdict
from vita_duplex.engine.ports import Instance, PartFailed, Progress
from vita_duplex.roc import Roc
from vita_duplex.server.asr import load_asr
from vita_duplex.server.parts import instances

LEAST_RECALL = 0.95
LABELS = ("query", "noise")
ROWS = 15
"""Of the printed table; the picture has every point."""


class CalibrateError(Exception):
    """It cannot be calibrated; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled recording."""

    path: Path
    is_query: bool
    situation: Situation


@dataclass(frozen=True, slots=True)
class ClipVerdict:
    clip: Clip
    p1: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Judge labelled recordings with the configured instance and print what each verdict threshold would do. Best "
        "is the one with the fewest false takes among those with the wanted recall."
    )
    parser.epilog = (
        "CLIPS.tsv has two to four columns: a path (from the folder of the file); query or noise, all that was not "
        "meant for the assistant; what it was said into, speaking (a reply was heard, the default), after N (so many "
        "seconds behind one) or idle; the assistant's last words · exit status: 0 printed; 2 the clips, the picture or "
        "the model are wrong"
    )
    parser.add_argument("clips", type=Path, metavar="CLIPS.tsv", help="labelled recordings, each one utterance")
    parser.add_argument(
        "--corrections",
        type=Path,
        metavar="FOLDER",
        help="count what users corrected as well: the session logs of `server.session_logs`, of the same model",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="ROC.svg", help="draw the ROC curve")
    parser.add_argument(
        "--recall",
        type=_share,
        default=LEAST_RECALL,
        metavar="SHARE",
        help=f"queries that have to be taken (default: {LEAST_RECALL})",
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return value


def run(arguments: argparse.Namespace, config: Config, progress: Progress) -> int:
    """Errors: `CalibrateError`."""
    if arguments.out and (arguments.out.suffix != ".svg" or not arguments.out.parent.is_dir()):
        raise CalibrateError(f"cannot draw {arguments.out}: give a name in a folder, ending in .svg")
    clips = read_clips(arguments.clips)
    if config.engine.kind == "scripted":
        raise CalibrateError("a scripted engine hears nothing; take another configuration")
    remote = config.engine.remote
    first = remote.model_copy(update={"urls": remote.urls[:1] or (remote.service,), "service": None})
    engine = config.engine.model_copy(update={"instances": 1, "remote": first})
    try:
        asr = load_asr(config.asr, needed=True) if engine.reads else None
        [instance] = instances(engine, ["a"], asr, progress, engines=1)
        try:
            verdicts = asyncio.run(judge(instance, clips))
        finally:
            instance.close()
    except PartFailed as failure:
        raise CalibrateError(str(failure)) from failure
    if arguments.corrections:
        verdicts += read_corrections(arguments.corrections)
    roc = roc_of(verdicts)
    print(report(verdicts, config.duplex, arguments.recall))
    if arguments.out:
        try:
            draw(roc, roc.best(arguments.recall)).write(arguments.out)
        except OSError as error:
            raise CalibrateError(f"cannot write {arguments.out}: {error.strerror}") from error
        print(f"wrote {arguments.out}")
    return 0


def read_clips(path: Path) -> list[Clip]:
    """Errors: `CalibrateError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrateError(f"cannot read {path}: {error}") from error
    clips = []
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter="\t"), start=1):
        match row:
            case [] | ["path", "label", *_]:
                continue
            case [name, ("query" | "noise") as label, *said_into] if len(said_into) <= 2:
                situation = _situation(said_into, f"{path}, line {number}")
                clips.append(Clip(path.parent / name, label == "query", situation))
            case _:
                raise CalibrateError(f"{path}, line {number}: wants a path, a tab, and {' or '.join(LABELS)}")
    if len({clip.is_query for clip in clips}) < 2:
        raise CalibrateError(f"{path} has to have clips of both kinds, {' and '.join(LABELS)}")
    return clips


def read_corrections(folder: Path) -> list[ClipVerdict]:
    """What users said of verdicts, and the `p1` that they were given. Errors: `CalibrateError`."""
    try:
        logs = [(path, session_log.read(path)) for path in sorted(folder.glob("*.jsonl"))]
    except session_log.LogError as error:
        raise CalibrateError(str(error)) from error
    return [
        ClipVerdict(Clip(path, label.meant, Situation(label.reply)), label.p1)
        for path, log in logs
        for label in log.labels
        if label.p1 is not None
    ]


def _situation(columns: list[str], place: str) -> Situation:
    """What a clip was said into, of the third and fourth column what is there. Errors: `CalibrateError`."""
    said_into, last_words = [*columns, *["speaking", ""][len(columns) :]]
    match said_into.split():
        case ["speaking" | "idle" as reply]:
            return Situation(reply, last_words=last_words)
        case ["after", seconds] if re.fullmatch(r"\d+(\.\d+)?", seconds):
            return Situation("after", float(seconds), last_words)
        case _:
            raise CalibrateError(f"{place}: was it said into a reply (speaking), after N seconds, or idle?")


async def judge(instance: Instance, clips: Iterable[Clip]) -> list[ClipVerdict]:
    """The verdict on each clip, by itself. Errors: `CalibrateError`, `PartFailed`."""
    return [
        ClipVerdict(clip, await verdict(instance, Utterance(number, _samples(clip.path)), clip.situation))
        for number, clip in enumerate(clips, start=1)
    ]


async def verdict(instance: Instance, utterance: Utterance, situation: Situation) -> float:
    """`p1`; the answer behind it is not waited for. Errors: `PartFailed`."""
    async with aclosing(instance.answer(Query((), (utterance,), situation=situation))) as items:
        async for item in items:
            if isinstance(item, Verdict):
                return item.p1
    raise PartFailed(instance.name, "it gave no verdict")


def _samples(path: Path) -> Samples:
    try:
        return np.asarray(read_recording(path).samples / 2**15, np.float32)
    except TalkError as error:
        raise CalibrateError(str(error)) from error


def roc_of(verdicts: Iterable[ClipVerdict]) -> Roc:
    both: tuple[list[float], list[float]] = [], []
    for one in verdicts:
        both[0 if one.clip.is_query else 1].append(one.p1)
    return Roc(*both)


# ── what people read ───────────────────────────────────────────────────────────────────


def report(verdicts: Sequence[ClipVerdict], duplex: DuplexSettings, least_recall: float) -> str:
    """Each situation that there are clips of, by itself."""
    parts = []
    for reply in dict.fromkeys(one.clip.situation.reply for one in verdicts):
        some = [one for one in verdicts if one.clip.situation.reply == reply]
        parts.append(f"said into {reply}: {len(some)} clips → duplex.threshold.{reply}")
        both = len({one.clip.is_query for one in some}) == 2
        parts.append(_report(some, duplex.threshold_in(reply), least_recall) if both else "clips of one kind only\n")
    return "\n".join([*parts, "Intervals are 95 %: of chance in these clips, not of how well they stand for others."])


def _report(verdicts: Sequence[ClipVerdict], configured: float, least_recall: float) -> str:
    roc = roc_of(verdicts)
    best, points = roc.best(least_recall), roc.points
    shown = [points[round(n)] for n in np.linspace(0, len(points) - 1, min(ROWS, len(points)))]
    rows = [["threshold", "recall", "false takes"]]
    rows += [[f"{one.threshold:.3f}", f"{one.recall.value:.1%}", f"{one.false_takes.value:.1%}"] for one in shown]
    low, high = roc.auc_interval
    now = roc.at(configured)
    doubtful = sum(abs(one.p1 - configured) < ABSTAIN_BAND for one in verdicts)
    lines = [
        table(rows, left=0),
        "",
        f"AUC {roc.auc:.3f} ({low:.3f}–{high:.3f})",
        f"best threshold {best.threshold:.3f}: the fewest false takes with a recall of at least {least_recall:.0%}",
        f"  recall {best.recall}, false takes {best.false_takes}",
        f"configured {configured:.3f}: recall {now.recall}, false takes {now.false_takes}",
        f"  {doubtful} of {len(verdicts)} within {ABSTAIN_BAND:g} of it",
    ]
    wrong = [one for one in verdicts if (one.p1 >= best.threshold) != one.clip.is_query]
    lines += ["wrong at the best threshold:"] if wrong else []
    lines += [f"  p1 {one.p1:.3f}  {LABELS[not one.clip.is_query]:<5}  {one.clip.path.name}" for one in wrong]
    return "\n".join([*lines, ""])
