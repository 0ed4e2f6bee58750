"""The ROC curve of a calibration as a picture. Pure."""

from itertools import pairwise

from vita_duplex.client.svg import GRID, INK, Svg
from vita_duplex.roc import Point, Roc

CURVE, BEST, CHANCE = "#3572b0", "#c8443c", "#c9ced6"
LEFT, TOP, SIDE = 60, 40, 440


def draw(roc: Roc, best: Point) -> Svg:
    """The curve, and the best threshold with its intervals."""
    picture = Svg(LEFT + SIDE + 30, TOP + SIDE + 60)
    for tenth in range(0, 11, 2):
        picture.line([_at(tenth / 10, 0), _at(tenth / 10, 1)], GRID)
        picture.line([_at(0, tenth / 10), _at(1, tenth / 10)], GRID)
        picture.text(_at(tenth / 10, 0)[0], TOP + SIDE + 18, f"{tenth / 10:g}", anchor="middle")
        picture.text(LEFT - 8, _at(0, tenth / 10)[1] + 4, f"{tenth / 10:g}", anchor="end")
    picture.line([_at(0, 0), _at(1, 1)], CHANCE, dashes="5 4")
    corners = [(1.0, 1.0), *((one.false_takes.value, one.recall.value) for one in roc.points), (0.0, 0.0)]
    steps = [corners[0], *(point for before, after in pairwise(corners) for point in ((after[0], before[1]), after))]
    picture.line([_at(*point) for point in steps], CURVE, 2)
    false_takes, recall = best.false_takes, best.recall
    picture.circle(*_at(false_takes.value, recall.value), 6, BEST)
    picture.line([_at(false_takes.value, end) for end in recall.interval], BEST)
    picture.line([_at(end, recall.value) for end in false_takes.interval], BEST)
    lines = (f"threshold {best.threshold:.3f}", f"recall {recall.value:.1%}", f"false takes {false_takes.value:.1%}")
    for number, line in enumerate(lines):
        picture.text(_at(0.6, 0)[0], _at(0, 0.2)[1] + 18 * number, line, BEST)
    low, high = roc.auc_interval
    picture.text(LEFT, 24, f"AUC {roc.auc:.3f} ({low:.3f}–{high:.3f})", INK, size=15)
    picture.text(LEFT, TOP + SIDE + 40, f"across: false takes, of {false_takes.of}; up: recall, of {recall.of} queries")
    return picture


def _at(false_takes: float, recall: float) -> tuple[float, float]:
    return LEFT + SIDE * false_takes, TOP + SIDE * (1 - recall)
