"""What training data consists of, as numbers and as a picture."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vita_duplex.train.batch import UNUSABLE, Encoder
from vita_duplex.train.model import AUDIO, IMAGE
from vita_duplex.train.sample import Sample


@dataclass
class Statistics:
    """Of the items that can be used."""

    items: int = 0
    unusable: int = 0
    audio_s: list[float] = field(default_factory=list)
    """Seconds of each clip."""
    tokens: list[int] = field(default_factory=list)
    """Of each item, media included."""
    tiles: list[int] = field(default_factory=list)
    """Of each picture or film."""
    media_tokens: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    situations: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        def spread(values: list[int] | list[float], unit: str) -> str:
            ordered = sorted(values)
            if not ordered:
                return "none"
            middle, end = ordered[len(ordered) // 2], ordered[-1]
            return f"{len(ordered)}, median {middle:.4g}{unit}, most {end:.4g}{unit}, in all {sum(ordered):.6g}{unit}"

        return [
            f"items        {self.items} ({self.unusable} cannot be used)",
            f"clips        {spread(self.audio_s, ' s')}",
            f"tiles        {spread(self.tiles, '')}",
            f"tokens       {spread(self.tokens, '')}",
            f"of media     {', '.join(f'{k} {v}' for k, v in self.media_tokens.items()) or 'none'}",
            f"state tokens {', '.join(f'{k} {v}' for k, v in self.states.most_common()) or 'none'}",
            f"situations   {', '.join(f'{k} {v}' for k, v in self.situations.most_common())}",
        ]


def statistics(samples: Iterable[Sample], encoder: Encoder) -> Statistics:
    """Load everything once."""
    found = Statistics()
    for sample in samples:
        try:
            row = encoder.encode(sample)
        except UNUSABLE:
            found.unusable += 1
            continue
        found.items += 1
        found.audio_s += [len(one) / 100 for one in row.features]
        found.tiles += [len(one) for one in row.pixels]
        found.tokens.append(len(row.ids))
        found.media_tokens["image"] += row.ids.count(IMAGE)
        found.media_tokens["audio"] += row.ids.count(AUDIO)
        found.states.update(turn.state for turn in sample.turns if turn.state)
        found.situations[sample.situation or "none"] += 1
    return found


def draw(found: Statistics, path: Path) -> None:
    """Histograms of clips and items, and the share of each state token."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    for axis, values, title in (
        (axes[0], found.audio_s, "seconds of a clip"),
        (axes[1], found.tokens, "tokens of an item"),
    ):
        axis.hist(values or [0], bins=30)
        axis.set_title(title, fontsize=10)
    axes[2].bar(list(found.states), list(found.states.values()))
    axes[2].set_title("state tokens", fontsize=10)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
