"""Training data to other training data: another format, packed, without faulty items, from session logs."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vita_duplex.train.batch import UNUSABLE, Encoder
from vita_duplex.train.formats import to_messages, to_vita
from vita_duplex.train.recipe import RecipeError
from vita_duplex.train.sample import Sample


def write_samples(samples: Iterable[Sample], path: Path) -> int:
    """Write `.jsonl` of messages or `.json` of VITA, by the name; returns how many.

    Errors: `RecipeError` for another name; `SampleError` for what VITA's format cannot say.
    """
    if path.suffix == ".jsonl":
        lines = [json.dumps(to_messages(one, path.parent.resolve()), ensure_ascii=False) for one in samples]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return len(lines)
    if path.suffix == ".json":
        items: list[dict[str, Any]] = [to_vita(one) for one in samples]
        path.write_text(json.dumps(items, ensure_ascii=False, indent=1), encoding="utf-8")
        return len(items)
    raise RecipeError(f"{path}: ends in neither .jsonl (messages) nor .json (VITA)")


def pack(samples: Sequence[Sample], encoder: Encoder, most_tokens: int) -> Iterator[Sample]:
    """Samples of one kind of media as one of many turns, up to so many tokens; what is longer stays alone.

    Errors: `UNUSABLE`, of a sample that cannot be loaded, are passed over: `data check` tells them.
    """
    open_ones: dict[tuple[object, ...], tuple[Sample, int]] = {}
    for sample in samples:
        try:
            tokens = len(encoder.encode(sample).ids)
        except UNUSABLE:
            continue
        kind = (frozenset(medium.kind for medium in sample.media), sample.system, sample.situation, sample.tiled)
        if not sample.end:
            yield sample
            continue
        held, length = open_ones.get(kind, (None, 0))
        if held is None or length + tokens > most_tokens:
            if held is not None:
                yield held
            open_ones[kind] = sample, tokens
        else:
            open_ones[kind] = replace(held, turns=(*held.turns, *sample.turns)), length + tokens
    yield from (held for held, _ in open_ones.values())
