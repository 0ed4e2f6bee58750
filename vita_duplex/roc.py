"""How well verdicts tell queries from other sounds: the receiver operating characteristic of `p1`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.96
"""Standard deviations of a 95 % interval."""
RESAMPLES = 2000
"""Of a bootstrap."""
STEP = 0.001
"""Of the interval of an area."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with the 95 % interval of Wilson (1927), which holds for small numbers and at 0 and 1."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of

    @property
    def interval(self) -> tuple[float, float]:
        from scipy.stats import binomtest  # takes a second to import

        interval = binomtest(self.hits, self.of).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits}/{self.of} = {self.value:.1%} ({low:.0%}–{high:.0%})"


@dataclass(frozen=True, slots=True)
class Point:
    """What a threshold does: everything with at least this `p1` is taken."""

    threshold: float
    recall: Share
    """Of the queries, those taken."""
    false_takes: Share
    """Of the others, those taken."""


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % of the means of samples drawn from these with replacement (Efron's bootstrap), the same on every run."""
    drawn = np.random.default_rng(1).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


class Roc:
    """The verdicts on labelled clips. Errors: `ValueError` unless there is at least one of each kind."""

    def __init__(self, queries: Sequence[float], others: Sequence[float]) -> None:
        """`p1` of what was a query, and of what was none."""
        if not queries or not others:
            raise ValueError("a ROC needs queries and others")
        self._queries: NDArray[np.float64] = np.sort(np.asarray(queries, np.float64))
        self._others: NDArray[np.float64] = np.sort(np.asarray(others, np.float64))

    def at(self, threshold: float) -> Point:
        taken = (len(kind) - int(np.searchsorted(kind, threshold)) for kind in (self._queries, self._others))
        recall, false_takes = taken
        return Point(threshold, Share(recall, len(self._queries)), Share(false_takes, len(self._others)))

    @property
    def points(self) -> list[Point]:
        """One for each different `p1`, from the one that takes everything to the strictest."""
        return [self.at(float(p1)) for p1 in np.unique(np.concatenate([self._queries, self._others]))]

    def best(self, least_recall: float) -> Point:
        """The threshold with the fewest false takes among those with at least this recall.

        A higher threshold never takes more, so it is the highest of them; of the range in which it decides the same
        about every clip, the middle.
        """
        highest = max((one for one in self.points if one.recall.value >= least_recall), key=lambda one: one.threshold)
        below = [one.threshold for one in self.points if one.threshold < highest.threshold]
        return self.at((highest.threshold + max(below, default=0.0)) / 2)

    @property
    def auc(self) -> float:
        """Probability that a query has a higher `p1` than another sound; ties count half (Mann and Whitney, 1947)."""
        from scipy.stats import mannwhitneyu

        return float(mannwhitneyu(self._queries, self._others).statistic) / (len(self._queries) * len(self._others))

    @property
    def auc_interval(self) -> tuple[float, float]:
        """95 %: the areas whose own standard error (Hanley and McNeil, Radiology 143 (1982), 29–36) allows this one.

        Asked of each possible area and not of this one, as Wilson does, so that it is not empty at 1.
        """
        n, m, area = len(self._queries), len(self._others), np.linspace(0, 1, round(1 / STEP) + 1)
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        variance = (area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m)
        possible = area[np.abs(self.auc - area) <= Z * np.sqrt(np.maximum(0, variance)) + STEP]
        return float(possible.min()), float(possible.max())
