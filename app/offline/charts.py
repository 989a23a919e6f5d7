"""Charts of the report as shapes in the coordinates of their SVG; the template draws them."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.offline.rows import Row
from app.offline.summary import BINS, Distribution
from model.config import Head

WIDTH, HEIGHT = 400, 150  # of a histogram's drawing area
SIDE = 360  # of the scatter's
_GAP = 2
_MOST_POINTS = 4000


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a histogram, and what it says to those who point at it."""

    x: float
    y: float
    width: float
    height: float
    told: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Of one head's scores over [0, 1]; ``mean`` is an x."""

    bars: tuple[Bar, ...]
    mean: float
    most: int
    alt: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Of two heads; ``path`` has a dot per image. ``shown`` of ``count`` images are drawn."""

    path: str
    shown: int
    count: int
    alt: str


def histogram(head: Head, d: Distribution) -> Histogram:
    """The bars of a distribution."""
    most, width = max(1, *d.bins), WIDTH / BINS
    bars = []
    for number, count in enumerate(d.bins):
        height = count / most * HEIGHT
        span = f"{number / BINS:.2f} to {(number + 1) / BINS:.2f}"
        told = f"{span}: {count} {'image' if count == 1 else 'images'}"
        x, y = number * width + _GAP / 2, HEIGHT - height
        bars.append(Bar(round(x, 1), round(y, 1), width - _GAP, round(height, 1), told))
    alt = (
        f"Histogram of {head} of {d.count} images: half lie under {d.median:.3f}, "
        f"90 % between {d.p5:.3f} and {d.p95:.3f}."
    )
    return Histogram(tuple(bars), round(d.mean * WIDTH, 1), most, alt)


def scatter(rows: Sequence[Row], across: Head, up: Head) -> Scatter | None:
    """Dots of the rows that have both heads; None where fewer than three have. Of very many, an
    even choice.
    """
    pairs = [(r[across], r[up]) for r in rows if r[across] is not None and r[up] is not None]
    if len(pairs) < 3:
        return None
    drawn = pairs[:: -(-len(pairs) // _MOST_POINTS)]
    path = "".join(f"M{x * SIDE:.1f} {(1 - y) * SIDE:.1f}h0" for x, y in drawn)
    alt = f"Scatter plot of {len(drawn)} images, {up} over {across}."
    return Scatter(path, len(drawn), len(pairs), alt)
