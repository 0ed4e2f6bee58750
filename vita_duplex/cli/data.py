"""`vita-duplex data`: training data checked, counted, converted, packed, and mixed from recordings."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vita_duplex.cli.train import NEEDED, TrainError

COMMANDS = {
    "check": "name every fault of every item; exit status 1 if there is one",
    "stats": "durations, tokens, tiles and state tokens, with a picture",
    "convert": "VITA's JSON to lines of messages, or back, by the names",
    "drop": "write the items that have no fault",
    "pack": "items of one kind as one of many turns, up to a length",
    "mix": "make clips for the state token from folders of recordings",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Training data: VITA's own JSON (.json) and lines of messages with audios, images and videos (.jsonl)."
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="|".join(COMMANDS))
    made = {name: commands.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()}
    for name, command in made.items():
        if name == "mix":
            continue
        command.add_argument("files", type=Path, metavar="DATA", nargs="+" if name in ("check", "stats") else None)
        command.add_argument("--folders", type=Path, metavar="FOLDERS.yaml", help="sets, audio, not_tiled (DataConfig)")
    for name in ("convert", "drop", "pack"):
        made[name].add_argument("out", type=Path, metavar="OUT", help=".jsonl of messages or .json of VITA")
    for name in ("stats", "pack"):
        made[name].add_argument("--model", type=Path, required=True, help="the checkpoint whose tokens are counted")
    made["check"].add_argument("--memory", type=Path, help="file that remembers media already checked, to go on later")
    made["stats"].add_argument("-o", "--out", type=Path, metavar="PICTURE.png", help="draw histograms")
    made["pack"].add_argument(
        "--tokens", type=int, default=4500, help="of a packed item (default: 4500, the original's)"
    )
    _add_mix(made["mix"])


def _add_mix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the clips and of items.jsonl")
    parser.add_argument("--queries", type=Path, required=True, help="folder of speech meant for the assistant")
    for name, text in (
        ("others", "speech meant for somebody else"),
        ("noise", "noises and music"),
        ("backchannels", "mm-hm, yeah, laughter"),
        ("assistant", "the assistant's own voice, as it leaks into a microphone"),
        ("rooms", "impulse responses of rooms"),
    ):
        parser.add_argument(f"--{name}", type=Path, help=f"folder of {text}")
    parser.add_argument("--count", type=int, default=2000, help="clips, half of them queries (default: 2000)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--answer", default="Yes.", help="what queries are answered with; replay real answers beside")


def run(arguments: argparse.Namespace) -> int:
    """Errors: `TrainError`."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise TrainError(f"{error.name} is not installed; {NEEDED}") from error
    from vita_duplex.client.errors import TalkError
    from vita_duplex.train.recipe import RecipeError
    from vita_duplex.train.sample import SampleError

    try:
        return {"check": _check, "stats": _stats, "convert": _convert, "drop": _drop, "pack": _pack, "mix": _mix}[
            arguments.what
        ](arguments)
    except (RecipeError, SampleError, TalkError, OSError, ValueError) as error:
        raise TrainError(str(error)) from error


def _bar(things: Iterable[Any], name: str) -> Iterable[Any]:
    return tqdm(things, desc=name, unit="")


def _folders(arguments: argparse.Namespace) -> Any:
    import yaml

    from vita_duplex.train.formats import Folders

    if arguments.folders is None:
        return Folders()
    return Folders.model_validate(yaml.safe_load(arguments.folders.read_text(encoding="utf-8")))


def _faults(arguments: argparse.Namespace, files: list[Path], memory: Path | None = None) -> list[Any]:
    from vita_duplex.train.check import MediaChecks, check

    return list(check(files, _folders(arguments), MediaChecks(memory), _bar))


def _check(arguments: argparse.Namespace) -> int:
    faults = _faults(arguments, arguments.files, arguments.memory)
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults" if faults else "no faults")
    return 1 if faults else 0


def _samples(arguments: argparse.Namespace, files: list[Path]) -> list[Any]:
    """Errors: `SampleError`, with the item's name, for the first item that is none."""
    from vita_duplex.train.formats import read_items
    from vita_duplex.train.sample import SampleError

    folders, samples = _folders(arguments), []
    for file in files:
        for item in read_items(file):
            try:
                samples.append(item.sample(file, folders))
            except SampleError as error:
                raise SampleError(f"{item.name}: {error}; `vita-duplex data drop` leaves such items out") from error
    return samples


def _encoder(arguments: argparse.Namespace, most: int) -> Any:
    from vita_duplex.models.configuration import of_folder
    from vita_duplex.train.batch import Encoder
    from vita_duplex.train.folder import load_tokenizer
    from vita_duplex.train.labels import LabelSettings

    config = of_folder(arguments.model)
    if config is None:
        raise TrainError(f"{arguments.model} is no checkpoint of VITA")
    return Encoder(config, load_tokenizer(arguments.model), LabelSettings(), config.max_dynamic_patch, most)


def _stats(arguments: argparse.Namespace) -> int:
    from vita_duplex.train.statistics import draw, statistics

    found = statistics(_bar(_samples(arguments, arguments.files), "items"), _encoder(arguments, 10**9))
    print("\n".join(found.lines()))
    if arguments.out:
        draw(found, arguments.out)
        print(f"wrote {arguments.out}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    return _write(_samples(arguments, [arguments.files]), arguments.out)


def _drop(arguments: argparse.Namespace) -> int:
    from vita_duplex.train.formats import read_items
    from vita_duplex.train.sample import SampleError

    bad = {fault.item for fault in _faults(arguments, [arguments.files])}
    items = [item for item in read_items(arguments.files) if item.name not in bad]
    if not items:
        raise SampleError(f"{arguments.files}: every item has a fault; `vita-duplex data check` names them")
    print(f"{len(bad)} items left out")
    folders = _folders(arguments)
    return _write([item.sample(arguments.files, folders) for item in items], arguments.out)


def _pack(arguments: argparse.Namespace) -> int:
    from vita_duplex.train.rewrite import pack

    samples = _samples(arguments, [arguments.files])
    return _write(list(pack(list(_bar(samples, "items")), _encoder(arguments, 10**9), arguments.tokens)), arguments.out)


def _write(samples: list[Any], out: Path) -> int:
    from vita_duplex.train.rewrite import write_samples

    print(f"wrote {write_samples(samples, out)} items to {out}")
    return 0


def _mix(arguments: argparse.Namespace) -> int:
    from vita_duplex.train.mix import Sources, mix

    names = ("queries", "others", "noise", "backchannels", "assistant", "rooms")
    sources = Sources(**{name: getattr(arguments, name) for name in names})
    path = mix(
        sources,
        arguments.out,
        arguments.count,
        arguments.seed,
        arguments.answer,
        lambda numbers: tqdm(numbers, desc="clips"),
    )
    lines = path.read_text(encoding="utf-8").splitlines()
    print(f"wrote {len(lines)} clips; {path} lists them")
    return 0
