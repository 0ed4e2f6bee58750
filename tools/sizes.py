"""Print how long the package's files and functions are, in lines, and how many lines each room has."""

import ast
import sys
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vita_duplex"
FILES = {".py": (110, 280, 450), ".js": (None, None, 450), ".css": (None, None, 450)}
"""Wanted at most: the median, the 90th percentile, the longest."""
FUNCTIONS = (6, 16, 60)
LONGEST_LISTED = 5


def main() -> int:
    fits = True
    for suffix, bars in FILES.items():
        lengths = {str(path.relative_to(PACKAGE)): _lines(path) for path in PACKAGE.rglob(f"*{suffix}")}
        lengths = {name: length for name, length in lengths.items() if not name.endswith("__init__.py")}
        fits &= _report(f"files {suffix}", lengths, bars)
    lengths = dict(found for path in PACKAGE.rglob("*.py") for found in _functions(path))
    fits &= _report("functions", lengths, FUNCTIONS)
    rooms: Counter[str] = Counter()
    for path in PACKAGE.rglob("*.py"):
        rooms[str(path.parent.relative_to(PACKAGE))] += _lines(path)
    for room, lines in sorted(rooms.items()):
        print(f"{lines:7,}  {room}")
    print(f"{rooms.total():7,}  lines of Python")
    return 0 if fits else 1


def _report(what: str, lengths: dict[str, int], bars: tuple[int | None, ...]) -> bool:
    """Print one line of figures, and the longest."""
    ordered = sorted(lengths.values())
    figures = ordered[len(ordered) // 2], ordered[len(ordered) * 9 // 10], ordered[-1]
    shown = [f"{name} {value}" + (f" (at most {bar})" if bar else "")
             for name, value, bar in zip(("median", "p90", "max"), figures, bars, strict=True)]  # fmt: skip
    print(f"{what}: {len(ordered)}, {', '.join(shown)}")
    for name in sorted(lengths, key=lambda name: -lengths[name])[:LONGEST_LISTED]:
        print(f"    {lengths[name]:4}  {name}")
    return all(bar is None or value <= bar for value, bar in zip(figures, bars, strict=True))


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _functions(path: Path) -> list[tuple[str, int]]:
    """Length from `def` to the last line of each function, also of those inside others."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    defined = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)
            for node in defined if node.end_lineno]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
