"""The plot: bars of images per second, for light and for dark."""

import statistics
from collections.abc import Sequence
from html import escape

from benchmarks.peers.report import Row, best_of_each
from reporting import charts

_NAMES, _BARS, _FIGURES = 290, 300, 150  # from left to right
_STEP, _BAR, _TOP = 26, 16, 34
_STYLE = """
.ground { fill: #fbfbf9; }
text { fill: #585d63; font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.bar { fill: #9aa3ab; }
.ours { fill: #0a5f9e; }
.limit { stroke: #a3341f; stroke-dasharray: 7 4; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #15171a; }
  text { fill: #a5abb2; }
  .bar { fill: #5d656d; }
  .ours { fill: #74bdf2; }
  .limit { stroke: #f0907a; }
}
"""


def svg(rows: Sequence[Row], limit: float, caption: str) -> bytes:
    """A bar for each server and shape, with the batch that does best in it, and a line at what the
    bare loop does.
    """
    bars = best_of_each(rows, by_shape=True)
    scale = _BARS / max(limit, *(row.median_rate for row in bars))
    height = _TOP + _STEP * len(bars)
    shapes = [_bar(row, _TOP + _STEP * place, scale) for place, row in enumerate(bars)]
    at = _NAMES + scale * limit
    shapes += [
        f'<line class="limit" x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{height}"/>',
        _text(at, _TOP - 14, f"bare loop {limit:.1f}", "end"),
        _text(0, height + 20, caption, "start"),
    ]
    box = f"-8 0 {_NAMES + _BARS + _FIGURES + 16} {height + 32}"
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-size="13">'
    return charts.standalone("\n".join([opening, *shapes, "</svg>"]).encode(), _STYLE)


def _bar(row: Row, top: float, scale: float) -> str:
    width = scale * row.median_rate
    kind = "ours" if row.server.startswith("agiqa") else "bar"
    figures = f"{row.median_rate:.1f}/s, p99 {statistics.median(row.p99):.0f} ms"
    line = top + _BAR - 3
    return "\n".join(
        [
            _text(_NAMES - 8, line, f"{row.server}, {row.setup.label}", "end"),
            f'<rect class="{kind}" x="{_NAMES}" y="{top}" width="{width:.1f}" height="{_BAR}"/>',
            _text(_NAMES + _BARS + 8, line, figures, "start"),
        ]
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
