"""What the replies to public sets are worth: each clip judged from what was heard, then shares with intervals. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any, Literal

import numpy as np

from vita_duplex.cli.eval_clips import Listened
from vita_duplex.cli.eval_layouts import Wanted
from vita_duplex.roc import Share, mean_interval

Did = Literal["responded", "stopped", "resumed", "waited", "answered early", "silent"]
"""`silent`: no reply was being heard when it was spoken into."""

RIGHT: dict[Wanted, tuple[Did, ...]] = {
    "respond": ("responded", "stopped"),
    "resume": ("resumed",),
    "wait": ("waited",),
}
"""A reply that stops is right where it was wanted to: “stop” wants no answer."""
GAP_S = 0.05
"""Silence within a reply from which on it is a pause."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a server did with one clip. Times are in seconds; None where there is none."""

    set_name: str
    group: str
    name: str
    wanted: Wanted
    did: Did
    length_s: float
    """Of what was said into the reply."""
    silent_s: float | None = None
    """From its beginning until the reply was not heard any more."""
    pause_s: float | None = None
    """Silence in a reply that went on."""
    response_s: float | None = None
    """From its end to the first sound of the next reply."""

    @property
    def right(self) -> bool:
        return self.did in RIGHT[self.wanted]

    @property
    def penalty_s(self) -> float:
        """SID-Bench's penalty time: for an interruption the time until silence, or its length if it was missed; for
        anything else its length if the reply ended."""
        ended = self.did in ("responded", "stopped")
        if self.wanted == "respond":
            return max(0.0, self.silent_s or 0.0) if ended else self.length_s
        return self.length_s if ended or self.did == "answered early" else 0.0


def score(listened: Listened) -> Score:
    clip, (start, end) = listened.clip, listened.span
    about = (clip.set_name, clip.group, clip.name, clip.wanted)
    if clip.wanted == "wait":
        early = any(begin < end for _, begin, _ in listened.heard)
        return Score(*about, "answered early" if early else "waited", end - start)
    replies = {reply: list(parts) for reply, parts in groupby(listened.heard, key=lambda part: part[0])}
    before = [reply for reply, parts in replies.items() if parts[0][1] < start < _over(listened, parts)]
    if not before:
        return Score(*about, "silent", end - start)
    reply = before[-1]
    parts = [(begin, until) for _, begin, until in replies[reply]]
    if reply in listened.cut and listened.cut[reply] >= start:
        later = [begin for other, begin, _ in listened.heard if other != reply and begin >= parts[-1][1]]
        response = later[0] - end if later else None
        return Score(*about, "responded" if later else "stopped", end - start, parts[-1][1] - start, None, response)
    pauses = [after - until for (_, until), (after, _) in pairwise(parts) if after > start and after - until > GAP_S]
    return Score(*about, "resumed", end - start, None, sum(pauses))


def _over(listened: Listened, parts: Sequence[tuple[str, float, float]]) -> float:
    """When a reply was over: heard to its end, or cut while it was held."""
    return max(parts[-1][2], listened.cut.get(parts[-1][0], 0.0))


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of one scenario."""

    name: str
    scores: Sequence[Score]

    @property
    def counted(self) -> list[Score]:
        return [one for one in self.scores if one.did != "silent"]

    def row(self) -> list[str]:
        counted = self.counted
        if not counted:
            return [self.name, "0", str(len(self.scores)), *["–"] * 6]
        right = Share(sum(one.right for one in counted), len(counted))
        return [
            self.name,
            str(len(counted)),
            str(len(self.scores) - len(counted)),
            str(right),
            *(self._times(name) for name in ("silent_s", "pause_s", "response_s")),
            _mean([one.penalty_s for one in counted]),
            counted[0].wanted if len({one.wanted for one in counted}) == 1 else "",
        ]

    def _times(self, name: str) -> str:
        known = [getattr(one, name) for one in self.counted if getattr(one, name) is not None]
        return f"{np.median(known):.2f}, {np.percentile(known, 95):.2f}" if known else "–"

    def as_json(self) -> dict[str, Any]:
        counted = self.counted
        right = Share(sum(one.right for one in counted), len(counted))
        penalty = [one.penalty_s for one in counted]
        return {
            "group": self.name,
            "clips": len(counted),
            "silent": len(self.scores) - len(counted),
            "right": right.value if counted else None,
            "right_interval": right.interval if counted else None,
            "average_penalty_s": float(np.mean(penalty)) if counted else None,
            "average_penalty_interval": mean_interval(penalty) if counted else None,
        }


HEADS = ["", "n", "silent", "right", "silence s", "pause s", "response s", "penalty s", "wanted"]


def groups(scores: Sequence[Score]) -> list[Group]:
    """By scenario, and all together."""
    key: Callable[[Score], str] = lambda one: one.group  # noqa: E731
    each = [Group(name, list(some)) for name, some in groupby(sorted(scores, key=key), key=key)]
    return [*each, Group("all", scores)]


def report(scores: Sequence[Score], failed: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """As JSON."""
    return {
        "set": scores[0].set_name if scores else None,
        "groups": [group.as_json() for group in groups(scores)] if scores else [],
        "clips": [{**asdict(one), "right": one.right, "penalty_s": one.penalty_s} for one in scores],
        "failed": [{"clip": name, "why": why} for name, why in failed],
    }


def _mean(seconds: Sequence[float]) -> str:
    low, high = mean_interval(seconds)
    return f"{np.mean(seconds):.2f} ({low:.2f}–{high:.2f})"
