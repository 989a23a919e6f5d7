"""How every plot is drawn: colours that the colour-blind tell apart, on white, without pyplot's
global state, and to the same bytes each time.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from reporting.document import Figure

# Okabe and Ito's palette without its yellow, which is too pale on white, and the marker and the
# line that go with each.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
GREY = "#6b7075"
BLUE, RED = PALETTE[:2]

# Above this many, points become one embedded picture: as many shapes would make a file of
# megabytes.
MOST_SHAPES = 1500

_STYLE = {
    "svg.hashsalt": "agiqa",
    "text.parse_math": False,  # a name with dollars in it is a name
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e5e7",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Sheet]:
    """An empty white sheet, in inches; its ``svg_figure`` is taken before the context ends."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield Sheet(figsize=(width, height), layout="constrained")


def svg_figure(sheet: Sheet, name: str, caption: str, alt: str) -> Figure:
    """What was drawn, as SVG: the same bytes for the same content, with no date in it."""
    buffer = io.BytesIO()
    sheet.savefig(buffer, format="svg", dpi=130, metadata={"Date": None, "Creator": None})
    return Figure(name, caption, buffer.getvalue(), "svg", alt)


def dots(count: int, *, alpha: float = 0.6, size: float = 16) -> dict[str, Any]:
    """How ``Axes.scatter`` draws the points of a plot that has ``count`` in all."""
    rasterized = count > MOST_SHAPES
    return {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": rasterized}


def diagonal(axes: Axes, values: Sequence[np.ndarray]) -> None:
    """Both axes over one range, [0, 1] or wider where values lie outside, with their diagonal."""
    together = np.concatenate([np.ravel(v) for v in values])
    low, high = min(0.0, float(together.min())), max(1.0, float(together.max()))
    margin = 0.03 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    axes.axline((0, 0), slope=1, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)


def legend_below(sheet: Sheet) -> None:
    """One legend under all axes, of what the first of them show, where it hides no point."""
    handles, labels = sheet.axes[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside lower center", ncols=3, handletextpad=0.4)
