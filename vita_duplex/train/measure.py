"""What a checkpoint's verdicts are worth on held-out items. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vita_duplex.models.prompts import STATES
from vita_duplex.roc import Roc

LEAST_RECALL = 0.95
"""At which false takes are told."""
QUERY, NOISE = STATES.index("query"), STATES.index("noise")


def measured(p1: NDArray[np.float64], states: NDArray[np.int64]) -> dict[str, float]:
    """The area under the ROC, recall and false takes; empty unless there are queries and noise.

    `p1`: [items], the weight of `<1>` among the state tokens. `states`: [items], in the order of `STATES`.
    """
    queries, others = p1[states == QUERY].tolist(), p1[states == NOISE].tolist()
    if not queries or not others:
        return {}
    roc = Roc(queries, others)
    best = roc.best(LEAST_RECALL)
    return {
        "auc": roc.auc,
        "recall": best.recall.value,
        "false_takes": best.false_takes.value,
        "threshold": best.threshold,
    }


def by_situation(
    p1: NDArray[np.float64], states: NDArray[np.int64], of: NDArray[np.int64], situations: Sequence[str]
) -> dict[str, float]:
    """`measured` of all items, and of each situation with its name behind: `auc_speaking`."""
    found = measured(p1, states)
    for number, name in enumerate(situations):
        chosen = of == number
        if name:
            found |= {f"{key}_{name}": value for key, value in measured(p1[chosen], states[chosen]).items()}
    return found
