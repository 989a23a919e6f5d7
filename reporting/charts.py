"""Charts of scores as SVG: files that stand alone on white, and, as inline figures, parts of an
HTML report, whose style sheet gives them its own colours by their classes.

Scores lie in [0, 1].
"""

from collections.abc import Iterable, Sequence
from html import escape

from reporting.text import counted

MOST_POINTS = 4000
_WIDTH, _HEIGHT = 400, 150  # of a histogram's drawing area
_SIDE = 360  # of the scatter's
_GAP = 2
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def histogram(counts: Sequence[int], mean: float) -> bytes:
    """Bars of how many images' scores lie in each of equal parts of [0, 1], with a line at the
    mean. Each bar says its span and count to who points at it.
    """
    most, step = max(1, *counts), _WIDTH / len(counts)
    shapes = [
        f'<rect class="bar" fill="#9dbfd9" x="{number * step + _GAP / 2:.1f}" '
        f'y="{_HEIGHT * (1 - count / most):.1f}" width="{step - _GAP:.1f}" '
        f'height="{_HEIGHT * count / most:.1f}" rx="1.5"><title>{number / len(counts):.2f} to '
        f"{(number + 1) / len(counts):.2f}: {counted(count, 'image')}</title></rect>"
        for number, count in enumerate(counts)
        if count
    ]
    shapes += [
        _line("axis", 0, _HEIGHT, _WIDTH, _HEIGHT),
        _line("peak", 0, 0, _WIDTH, 0),
        _line("mean", mean * _WIDTH, 0, mean * _WIDTH, _HEIGHT, f"mean {mean:.3f}"),
        _text(0, -4, counted(most, "image"), "start"),
    ]
    anchors = {0.0: "start", 1.0: "end"}
    shapes += [
        _text(tick * _WIDTH, _HEIGHT + 19, f"{tick:g}", anchors.get(tick, "middle"))
        for tick in _TICKS
    ]
    return _svg((0, -18, _WIDTH, _HEIGHT + 40), 15, shapes)


def scatter(points: Iterable[tuple[float, float]], across: str, up: str) -> bytes:
    """A dot for each pair of scores, over a grid; ``across`` and ``up`` name the axes."""
    shapes = []
    for tick in _TICKS:
        at = tick * _SIDE
        shapes += [
            _line("axis", at, 0, at, _SIDE),
            _line("axis", 0, at, _SIDE, at),
            _text(at, _SIDE + 16, f"{tick:g}"),
            _text(-6, _SIDE - at + 4, f"{tick:g}", "end"),
        ]
    dots = "".join(f"M{x * _SIDE:.1f} {(1 - y) * _SIDE:.1f}h0" for x, y in points)
    shapes += [
        '<g class="dots" stroke="#0a5f9e" stroke-width="5" stroke-linecap="round" opacity="0.6">',
        f'<path d="{dots}"/></g>',
        _text(_SIDE / 2, _SIDE + 33, across),
        f'<g transform="rotate(-90)">{_text(-_SIDE / 2, -34, up)}</g>',
    ]
    return _svg((-46, -8, _SIDE + 54, _SIDE + 46), 12, shapes)


def _svg(box: tuple[int, int, int, int], font_size: int, shapes: Iterable[str]) -> bytes:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{" ".join(map(str, box))}" '
        f'font-size="{font_size}" font-family="sans-serif" fill="#585d63">'
    )
    return "\n".join([opening, *shapes, "</svg>"]).encode()


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, title: str = "") -> str:
    colour = "#0a5f9e" if kind == "mean" else "#d9d9d3"
    dashes = ' stroke-dasharray="2 4"' if kind == "peak" else ""
    return (
        f'<line class="{kind}" stroke="{colour}" stroke-width="{2 if kind == "mean" else 1}"'
        f'{dashes} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}">'
        f"{f'<title>{escape(title)}</title>' if title else ''}</line>"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
