"""The ROC curve of a calibration as a picture."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vita_duplex.cli.roc import Point, Roc

PICTURES = (".svg", ".png", ".pdf")
INK, CURVE, BEST, CHANCE = "#22272e", "#3572b0", "#c8443c", "#c9ced6"


def draw(roc: Roc, best: Point, path: Path) -> None:
    """Write the picture. Errors: `OSError`."""
    figure = Figure(figsize=(5.6, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = roc.points
    false_takes = [1.0, *(one.false_takes.value for one in points), 0.0]
    recall = [1.0, *(one.recall.value for one in points), 0.0]
    axes.plot([0, 1], [0, 1], color=CHANCE, lw=1, ls="--")
    axes.plot(false_takes, recall, color=CURVE, lw=2, marker="o", ms=3.5, drawstyle="steps-pre", clip_on=False)
    axes.plot(best.false_takes.value, best.recall.value, "o", color=BEST, ms=9, mfc="none", mew=2.2, clip_on=False)
    low, high = best.recall.interval
    axes.vlines(best.false_takes.value, low, high, color=BEST, lw=1)
    low, high = best.false_takes.interval
    axes.hlines(best.recall.value, low, high, color=BEST, lw=1)
    said = f"threshold {best.threshold:.3f}\nrecall {best.recall.value:.1%}\nfalse takes {best.false_takes.value:.1%}"
    at = (min(0.55, best.false_takes.value + 0.06), best.recall.value - 0.3)
    axes.annotate(said, (best.false_takes.value, best.recall.value), at, color=BEST, fontsize=10)
    interval = "–".join(f"{end:.3f}" for end in roc.auc_interval)
    axes.set_title(f"AUC {roc.auc:.3f} ({interval})", color=INK, fontsize=11, loc="left")
    axes.set_xlabel(f"false takes, of {best.false_takes.of}", color=INK)
    axes.set_ylabel(f"recall, of {best.recall.of} queries", color=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.005)
    axes.grid(color="#eef0f3", lw=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130, facecolor="white")
