"""The papers' pictures: what a model looks at beside the image, and the map of its features."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from training.research.explain.cam import Explanation

_COLOURS = "inferno"
# Panels in inches: the shorter side, the longest that the other may get, the least that holds a
# title, and what stands around.
_SHORT, _LONG, _LEAST, _TITLE, _BAR = 3.2, 6.4, 1.4, 0.6, 1.0
# Images wider than so many times their height are put below each other.
_WIDE = 1.6
_DPI = 120
# Share of the colour in an overlay where the map is 0 and where it is 1.
_OPACITY = (0.35, 0.75)


def side_by_side(image: Image.Image, explanations: Sequence[tuple[str, Explanation]]) -> bytes:
    """A PNG: the image, and under each label the image with its map laid over and its score. Wide
    images stand below each other.
    """
    figure, axes = _sheet(image.width / image.height, 1 + len(explanations))
    _panel(axes[0], np.asarray(image), "image")
    for place, (label, explanation) in zip(axes[1:], explanations, strict=True):
        title = f"{label}\n{explanation.head} {explanation.score:.3f}"
        _panel(place, overlay(image, explanation.map), title)
    bar = figure.colorbar(ScalarMappable(cmap=_COLOURS), ax=axes, fraction=0.03, pad=0.01)
    kinds = ", ".join(dict.fromkeys(explanation.kind for _, explanation in explanations))
    bar.set_label(f"{kinds} (1: strongest)")
    return png(figure)


def _sheet(aspect: float, panels: int) -> tuple[Figure, Any]:
    """An empty figure with its panels, for images of that ``aspect`` (width / height)."""
    across, down = (1, panels) if aspect > _WIDE else (panels, 1)
    longest = min(_SHORT * max(aspect, 1 / aspect), _LONG)
    width, height = (longest, longest / aspect) if aspect > 1 else (longest * aspect, longest)
    size = (across * max(width, _LEAST) + _BAR, down * (max(height, _LEAST) + _TITLE))
    figure = Figure(size, _DPI, layout="constrained")
    return figure, figure.subplots(down, across, squeeze=False).ravel()


def overlay(image: Image.Image, weights: np.ndarray) -> np.ndarray:
    """The image in grey with the map float [H, W] in [0, 1] laid over it in colour: uint8
    [H, W, 3].
    """
    grey = np.asarray(image.convert("L"), np.float32)[..., None] / 255
    colour = colormaps[_COLOURS](weights)[..., :3]
    low, high = _OPACITY
    share = low + (high - low) * weights[..., None]
    mixed = (1 - share) * grey + share * colour
    return (mixed * 255).round().astype(np.uint8)


def png(figure: Figure) -> bytes:
    """The figure as a PNG, the same for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _panel(place: Any, pixels: np.ndarray, title: str) -> None:
    place.imshow(pixels)
    place.set_title(title, fontsize=9, parse_math=False)  # dollars in a name are dollars
    place.set_axis_off()
