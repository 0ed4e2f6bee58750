"""The figures of `make overlaps` as Markdown and as a picture: `python -m tests.support.overlap_report`."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.support.overlap_policies import POLICIES, Effect
from tests.support.overlaps import GROUPS, Outcome, measure, read
from vita_duplex.roc import Share, mean_interval

PICTURE = Path("docs/barge-in.svg")
FAR = ", far"

Effects = dict[str, list[Effect]]
"""By policy."""


def effects(outcomes: Sequence[Outcome]) -> Effects:
    return {name: [policy(one) for one in outcomes] for name, policy in POLICIES.items()}


def recall(some: Sequence[Effect]) -> Share:
    queries = [one for one in some if one.is_query]
    return Share(sum(one.ended for one in queries), len(queries))


def wrongly_ended(some: Sequence[Effect]) -> Share:
    others = [one for one in some if not one.is_query]
    return Share(sum(one.ended for one in others), len(others))


def pauses(some: Sequence[Effect]) -> list[float]:
    """Seconds of silence in replies that went on, as they should."""
    return [one.pause_s for one in some if not one.is_query and not one.ended]


def lateness(some: Sequence[Effect]) -> list[float]:
    """From the onset of an interruption to silence."""
    return [one.silent_s for one in some if one.is_query and one.ended]


def penalty(some: Sequence[Effect]) -> float:
    """SID-Bench's average penalty time, in seconds."""
    return float(np.mean([one.penalty_s for one in some]))


def report(outcomes: Sequence[Outcome]) -> str:
    near = [one for one in outcomes if FAR not in one.overlap.group]
    parts = [by_class(outcomes), whole(effects(near)), missed(outcomes)]
    human = [one for one in near if one.overlap.human]
    parts.insert(2, "Human clips only:\n\n" + whole(effects(human)))
    return "\n\n".join(parts)


def by_class(outcomes: Sequence[Outcome]) -> str:
    """Which policy ends how many replies, and what the others cost."""
    rows = ["| said into a reply | n (human) | " + " | ".join(f"ended by: {name}" for name in POLICIES)]
    rows[0] += " | pause, s: median, p95 | lateness, s: median | held, then whole |"
    rows += ["|---" * (len(POLICIES) + 5) + "|"]
    for group, name in GROUPS.items():
        some = [one for one in outcomes if one.overlap.group == group]
        each = effects(some)
        ours = each["hold and verdict"]
        ended = " | ".join(str(Share(sum(one.ended for one in policy), len(policy))) for policy in each.values())
        spared = [one for one in some if one.holds and one.ended_s is None]
        intact = f"{sum(one.whole for one in spared)} of {len(spared)}" if spared else "–"
        human = sum(one.overlap.human for one in some)
        times = f"{_percentiles(pauses(ours))} | {_median(lateness(ours))}"
        rows.append(f"| {name} | {len(some)} ({human}) | {ended} | {times} | {intact} |")
    return "\n".join(rows)


def whole(each: Effects) -> str:
    """All classes together."""
    rows = ["| | " + " | ".join(each) + " |", "|---" * (len(each) + 1) + "|"]

    def row(name: str, figure: Callable[[list[Effect]], object]) -> None:
        rows.append(f"| {name} | " + " | ".join(str(figure(some)) for some in each.values()) + " |")

    row("recall of interruptions", recall)
    row("replies wrongly ended", wrongly_ended)
    row("pause of a reply that goes on, s: median, p95", lambda some: _percentiles(pauses(some)))
    row("lateness of an interruption, s: median, p95", lambda some: _percentiles(lateness(some)))
    row("average penalty time, s", lambda some: _mean([one.penalty_s for one in some]))
    row("the same with pauses, s", lambda some: _mean([one.penalty_with_pauses_s for one in some]))
    return "\n".join(rows)


def missed(outcomes: Sequence[Outcome]) -> str:
    wrong = [one.overlap for one in outcomes if (one.ended_s is not None) != one.overlap.event.is_query]
    return "Judged wrongly: " + "; ".join(f"{one.event.what} ({one.group})" for one in wrong)


def _percentiles(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.2f}, {np.percentile(seconds, 95):.2f}" if len(seconds) else "–"


def _median(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.2f}" if len(seconds) else "–"


def _mean(seconds: Sequence[float]) -> str:
    """With the 95 % interval of a bootstrap."""
    low, high = mean_interval(seconds)
    return f"{np.mean(seconds):.2f} ({low:.2f}–{high:.2f})"


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """By class: left the share of replies that each policy ends, right the silence in those that go on."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    places = np.arange(len(GROUPS))
    for number, name in enumerate(POLICIES):
        at = places + 0.22 * (number - 1)
        each = [effects([one for one in outcomes if one.overlap.group == group])[name] for group in GROUPS]
        shares = [Share(sum(one.ended for one in some), len(some)) for some in each]
        values = np.array([100 * share.value for share in shares])
        bounds = np.abs(100 * np.array([share.interval for share in shares]).T - values)
        left.errorbar(values, at, xerr=bounds, fmt="o", capsize=2, label=name)
        quiet = [
            [one.pause_s for one in some if not one.is_query and not one.ended] or [np.nan]
            for one, some in zip(places, each, strict=True)
        ]
        middle = np.array([np.median(some) for some in quiet])
        most = np.array([np.percentile(some, 95) for some in quiet])
        right.errorbar(middle, at, xerr=[np.zeros(len(at)), most - middle], fmt="o", capsize=2, label=name)
    left.set(xlabel="replies that end, % (95 % interval)", xlim=(-3, 103))
    left.set_yticks(places, GROUPS.values())
    left.invert_yaxis()
    right.set(xlabel="silence in replies that go on, s (median to p95)", xlim=(-0.1, None))
    right.legend()
    figure.savefig(path, metadata={"Date": None})


def machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].split(':')[1].strip() if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    outcomes = measure(read())
    print(f"{report(outcomes)}\n\n{machine()}")
    draw(outcomes, PICTURE)


if __name__ == "__main__":
    main()
