"""A picture as SVG text, which every browser shows. Pure."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

INK = "#22272e"
GRID = "#e4e7eb"
FONT = 12


class Svg:
    """Shapes in pixels, each over those before it. `tip` is what a pointer on the shape is told."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._shapes: list[str] = []

    def box(self, left: float, top: float, right: float, bottom: float, colour: str, tip: str = "") -> None:
        size = f'width="{max(0.0, right - left):.1f}" height="{bottom - top:.1f}"'
        self._shapes.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{colour}"><title>{escape(tip)}</title></rect>'
        )

    def area(self, points: Iterable[tuple[float, float]], colour: str) -> None:
        self._shapes.append(f'<polygon points="{_joined(points)}" fill="{colour}"/>')

    def line(self, points: Iterable[tuple[float, float]], colour: str, width: float = 1, dashes: str = "none") -> None:
        style = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"'
        self._shapes.append(f'<polyline points="{_joined(points)}" {style}/>')

    def circle(self, x: float, y: float, radius: float, colour: str) -> None:
        self._shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="none" stroke="{colour}"/>')

    def text(self, x: float, y: float, text: str, colour: str = INK, anchor: str = "start", size: int = FONT) -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
        self._shapes.append(f"<text {place}>{escape(text)}</text>")

    def __str__(self) -> str:
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
        return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *self._shapes, "</svg>\n"])

    def write(self, path: Path) -> None:
        """Errors: `OSError`."""
        path.write_text(str(self), encoding="utf-8")


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
