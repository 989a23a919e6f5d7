"""Charts of scores in [0, 1], and of parts against a load, as SVG: shapes for inline figures, which
the style sheet of the HTML report colours by their classes, for light and for dark.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from xml.etree import ElementTree

from reporting.text import counted

MOST_POINTS = 4000
_WIDTH, _HEIGHT = 400, 150  # of a histogram's drawing area
_SIDE = 360  # of the scatter's
_WIDE, _TALL = 560, 260  # of the curves'
_SAMPLE = 28  # of a curve, beside its name
_GAP = 2
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def histogram(counts: Sequence[int], mean: float) -> bytes:
    """Bars of how many images' scores lie in each of equal parts of [0, 1], with a line at the
    mean. Each bar says its span and count to who points at it.
    """
    most = max(1, *counts)
    step = _WIDTH / len(counts)
    shapes = []
    for number, count in enumerate(counts):
        height = _HEIGHT * count / most
        place = f'x="{number * step + _GAP / 2:.1f}" y="{_HEIGHT - height:.1f}"'
        size = f'width="{step - _GAP:.1f}" height="{height:.1f}"'
        span = f"{number / len(counts):.2f} to {(number + 1) / len(counts):.2f}"
        title = f"<title>{span}: {counted(count, 'image')}</title>"
        shapes += [f'<rect class="bar" {place} {size} rx="1.5">{title}</rect>'] if count else []
    shapes += [
        _line("axis", 0, _HEIGHT, _WIDTH, _HEIGHT),
        _line("peak", 0, 0, _WIDTH, 0),
        _line("mean", mean * _WIDTH, 0, mean * _WIDTH, _HEIGHT, f"mean {mean:.3f}"),
        _text(0, -4, counted(most, "image"), "start"),
    ]
    for tick in _TICKS:
        anchor = {0.0: "start", 1.0: "end"}.get(tick, "middle")
        shapes.append(_text(tick * _WIDTH, _HEIGHT + 19, f"{tick:g}", anchor))
    return _svg(f"0 -18 {_WIDTH} {_HEIGHT + 40}", 15, shapes)


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
        f'<path class="dots" d="{dots}"/>',
        _text(_SIDE / 2, _SIDE + 33, across),
        f'<g transform="rotate(-90)">{_text(-_SIDE / 2, -34, up)}</g>',
    ]
    return _svg(f"-46 -8 {_SIDE + 54} {_SIDE + 46}", 12, shapes)


def curves(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    points: tuple[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    up: str,
    ticks: tuple[Sequence[float], Sequence[float]],
) -> bytes:
    """Curves by name, and points with theirs, over a grid: the first number of each pair on a
    logarithmic axis. ``ticks`` of both axes, the outermost being the ends of each; ``across`` and
    ``up`` name the axes.
    """
    from_left = math.log(ticks[0][-1] / ticks[0][0])

    def place(x: float, y: float) -> tuple[float, float]:
        return _WIDE * math.log(x / ticks[0][0]) / from_left, _TALL * (1 - y / ticks[1][-1])

    shapes = []
    for tick in ticks[0]:
        at = place(tick, 0)[0]
        shapes += [_line("axis", at, 0, at, _TALL), _text(round(at), _TALL + 18, f"{tick:g}")]
    for tick in ticks[1]:
        at = place(ticks[0][0], tick)[1]
        shapes += [_line("axis", 0, at, _WIDE, at), _text(-8, round(at) + 4, f"{tick:g}", "end")]
    for number, (name, line) in enumerate(lines.items()):
        x = number * _WIDE / (len(lines) + 1)
        path = "L".join("{:.1f} {:.1f}".format(*place(*pair)) for pair in line)
        kind = f'class="curve curve-{number}"'
        shapes += [
            f'<path {kind} d="M{path}"><title>{escape(name)}</title></path>',
            f'<path {kind} d="M{x:.1f} -22h{_SAMPLE}"/>',
            _text(round(x) + _SAMPLE + 8, -18, name, "start"),
        ]
    dots = "".join("M{:.1f} {:.1f}h0".format(*place(*pair)) for pair in points[1])
    x = len(lines) * _WIDE / (len(lines) + 1)
    shapes += [
        f'<path class="dots" d="{dots}M{x + _SAMPLE / 2:.1f} -22h0"/>',
        _text(round(x) + _SAMPLE + 8, -18, points[0], "start"),
        _text(_WIDE / 2, _TALL + 40, across),
        f'<g transform="rotate(-90)">{_text(-_TALL / 2, -44, up)}</g>',
    ]
    return _svg(f"-60 -40 {_WIDE + 76} {_TALL + 90}", 14, shapes)


def standalone(svg: bytes, style: str) -> bytes:
    """A chart as a file of its own, with a style and a ground, which has the class ``ground``."""
    opening, shapes = svg.split(b"\n", 1)
    box = ElementTree.fromstring(svg).attrib["viewBox"].split()
    ground = '<rect class="ground" x="{}" y="{}" width="{}" height="{}"/>'.format(*box)
    return b"\n".join([opening, f"<style>{style}</style>\n{ground}".encode(), shapes])


def _svg(box: str, font_size: int, shapes: Iterable[str]) -> bytes:
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-size="{font_size}">'
    return "\n".join([opening, *shapes, "</svg>"]).encode()


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, title: str = "") -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    inside = f"<title>{title}</title>" if title else ""
    return f'<line class="{kind}" {place}>{inside}</line>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
