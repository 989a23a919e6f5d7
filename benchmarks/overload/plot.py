"""The plots of docs/performance.md: as files of their own, for light and for dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporting import charts


@dataclass(frozen=True)
class Point:
    """Attributes:
    load: offered, in capacities.
    goodput: in capacities.
    p99: of what was served, in deadlines.
    """

    load: float
    goodput: float
    p99: float


# Measured on the service: python -m benchmarks.drills --part overload, small uploads at 3x, and 10x
# (of the capacity beside the stand-in), on two shared cores in bfloat16.
MEASURED = (
    Point(3.0, 0.92, 0.286),
    Point(10.0, 0.92, 0.284),
)
_LOADS = (0.5, 1, 2, 3, 5, 10, 20)
_PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_STYLE = """
.ground { fill: #fbfbf9; }
text { fill: #585d63; font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.axis { stroke: #d9d9d3; }
.curve { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.curve-0, .dots { stroke: #0a5f9e; }
.curve-1 { stroke: #a3341f; stroke-dasharray: 7 4; }
.curve-2 { stroke: #6b5d10; stroke-dasharray: 2 4; }
.dots { stroke-width: 11; stroke-linecap: round; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #15171a; }
  text { fill: #a5abb2; }
  .axis { stroke: #3a3f45; }
  .curve-0, .dots { stroke: #74bdf2; }
  .curve-1 { stroke: #f0907a; }
  .curve-2 { stroke: #d8c46a; }
}
"""


def write(folder: Path, simulated: Mapping[str, Sequence[Point]]) -> None:
    """Two files: goodput, and p99."""
    for name, up in (("goodput", "served in time, of the capacity"), ("p99", "p99 / deadline")):
        curves = {
            rule: [(point.load, getattr(point, name)) for point in points]
            for rule, points in simulated.items()
        }
        dots = "measured", [(point.load, getattr(point, name)) for point in MEASURED]
        svg = charts.curves(
            curves, dots, across="offered load, of the capacity", up=up, ticks=(_LOADS, _PARTS)
        )
        (folder / f"overload-{name}.svg").write_bytes(charts.standalone(svg, _STYLE))
