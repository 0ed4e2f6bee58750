"""The curves of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

CURVES = (("loss", "loss"), ("state_accuracy", "state token right, in training"), ("eval_auc", "AUC, held out"))


def draw(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss, state-token accuracy and held-out AUC over the steps."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(CURVES), 1, sharex=True, figsize=(8, 8), layout="constrained")
    for axis, (key, title) in zip(axes, CURVES, strict=True):
        points = [(one["step"], one[key]) for one in history if key in one]
        axis.plot([x for x, _ in points], [y for _, y in points], marker="." if len(points) < 50 else "")
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
