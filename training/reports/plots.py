"""Plots of predictions against opinion scores, as figures of a document.

Predictions and opinion scores (MOS) are sequences of n floats in [0, 1], high = better, unless said
otherwise. Every function returns an SVG that the same input always makes byte for byte.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats

from reporting.document import Figure
from training.reports.drawing import (
    BLUE,
    GREY,
    LINES,
    MARKERS,
    PALETTE,
    RED,
    diagonal,
    dots,
    drawing,
    legend_below,
    svg_figure,
)

Floats = Sequence[float] | np.ndarray
Curve = Callable[[np.ndarray], np.ndarray]

_FEW = 3  # epochs, of which a line shows little

# Bad to good on one ramp from dark to light, so that print and the colour-blind keep the order.
_RAMP = "viridis"
_OWN = len(PALETTE) - 1  # groups with a colour of their own; black is the curve's


def predicted_against_mos(
    predicted: Floats, mos: Floats, curve: Curve, groups: Sequence[str] = ()
) -> Figure:
    """Each image's MOS over its predicted score, with the fitted VQEG logistic.

    Args:
        predicted: what the model says.
        mos: what people say.
        curve: maps predictions [m] to the MOS that they stand for [m] (``metrics.fit_logistic``).
        groups: a group of each image (its generator, say), or none; the six largest get colours
            of their own.
    """
    x, y = np.asarray(predicted, float), np.asarray(mos, float)
    with drawing(5.6, 5.9) as sheet:
        axes = sheet.add_subplot()
        diagonal(axes, [x, y])
        axes.set_aspect("equal")
        _points(axes, x, y, groups)
        line = np.linspace(x.min(), x.max(), 200)
        axes.plot(line, curve(line), color="black", linewidth=1.8, label="fitted logistic")
        axes.set(xlabel="predicted score", ylabel="mean opinion score")
        legend_below(sheet)
        return svg_figure(
            sheet,
            "predicted-against-mos",
            "Mean opinion score over predicted score, with the fitted VQEG 4-parameter logistic; "
            "dashed: equal.",
            f"Scatter plot of {len(x)} images, mean opinion score over predicted score: "
            f"predictions span {x.min():.2f} to {x.max():.2f}, opinions {y.min():.2f} to "
            f"{y.max():.2f}.",
        )


def residuals_by_group(groups: Sequence[str], predicted: Floats, mos: Floats) -> Figure:
    """Predicted minus MOS of each group's images (generator, say), as boxes over the single images,
    sorted by the median.
    """
    residuals, names = np.asarray(predicted, float) - np.asarray(mos, float), np.asarray(groups)
    parts = {str(name): residuals[names == name] for name in sorted(set(groups))}
    apart = dict(sorted(parts.items(), key=lambda part: float(np.median(part[1]))))
    with drawing(6.4, 1.1 + 0.42 * len(apart)) as sheet:
        axes = sheet.add_subplot()
        _boxes(axes, apart)
        axes.set(xlabel="predicted minus mean opinion score", yticks=range(len(apart)))
        axes.set_yticklabels([f"{name or 'unknown'} ({len(v)})" for name, v in apart.items()])
        medians = "; ".join(f"{name or 'unknown'} {np.median(v):+.3f}" for name, v in apart.items())
        return svg_figure(
            sheet,
            "residuals-by-group",
            "Residuals (predicted minus mean opinion score), sorted by median; right of zero is "
            "over-estimated. In brackets: how many images.",
            f"Box plot of residuals in {len(apart)} groups. Medians: {medians}.",
        )


def learning_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], keys: Sequence[str]
) -> Figure:
    """A panel for each key, in it a line for each run.

    Args:
        histories: of every run the rows of its epochs; a row's "epoch" is its place, else its
            number from 1; rows without the key, or with no finite value, are passed over.
        keys: what to show, as "loss" or "validation_srcc".
    """
    with drawing(6.4, 0.6 + 2.4 * len(keys)) as sheet:
        panels = sheet.subplots(len(keys), sharex=True, squeeze=False)[:, 0]
        for axes, key in zip(panels, keys, strict=True):
            styles = zip(cycle(PALETTE), cycle(LINES), strict=False)
            for (name, rows), (colour, line) in zip(histories.items(), styles, strict=False):
                x, y = _curve_of(rows, key)
                marker = "." if len(x) < _FEW else ""
                axes.plot(x, y, label=name, color=colour, linestyle=line, marker=marker)
            axes.set(ylabel=key.replace("_", " "))
        panels[-1].set(xlabel="epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(histories) > 1:
            legend_below(sheet)
        ends = [
            f"{name}: {key.replace('_', ' ')} from {y[0]:.3f} to {y[-1]:.3f}"
            for name, rows in histories.items()
            for key in keys
            if len(y := _curve_of(rows, key)[1])
        ]
        return svg_figure(
            sheet,
            "learning-curves",
            f"Over the epochs: {', '.join(key.replace('_', ' ') for key in keys)}.",
            f"Learning curves of {len(histories)} runs. {'; '.join(ends)}.",
        )


def reliability(predicted: Floats, mos: Floats, bins: int = 10) -> Figure:
    """Mean MOS over mean prediction in ``bins`` bins of equally many images, with the 95 % interval
    of each mean: on the diagonal, a score means what it says.
    """
    x, y = np.asarray(predicted, float), np.asarray(mos, float)
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    at = np.array([x[part].mean() for part in parts])
    mean = np.array([y[part].mean() for part in parts])
    spread = np.array([1.96 * stats.sem(y[p]) if len(p) > 1 else 0.0 for p in parts])
    with drawing(5.6, 6.2) as sheet:
        axes, below = sheet.subplots(2, height_ratios=(6, 1), sharex=True)
        diagonal(axes, [x, y])
        axes.errorbar(at, mean, spread, color=BLUE, capsize=3, linewidth=1.4, marker="o")
        axes.set(ylabel="mean opinion score")
        below.hist(x, bins=40, range=axes.get_xlim(), color=BLUE, alpha=0.6)
        below.set(xlabel="predicted score", ylabel="images")
        error = float(np.average(np.abs(at - mean), weights=[len(part) for part in parts]))
        return svg_figure(
            sheet,
            "reliability",
            f"Mean opinion score in {len(parts)} bins of equally many images, by predicted score, "
            "with 95 % intervals over the images; dashed: a score means what it says. Mean "
            f"distance {error:.3f}. Below: how often each score is given.",
            f"Reliability plot in {len(parts)} bins; the mean opinion differs from the mean "
            f"prediction by {error:.3f} on average, by {np.abs(at - mean).max():.3f} at most.",
        )


def bars_with_intervals(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    published: Mapping[str, float],
) -> Figure:
    """Values as dots with interval bars, a row each. They are no filled bars, so that the axis need
    not begin at zero.

    Args:
        labels: of the rows, from the top; n.
        values: n.
        intervals: low and high of each value.
        published: figures by label; each becomes a mark in that row.
    """
    with drawing(6.8, 1.3 + 0.36 * len(labels)) as sheet:
        axes = sheet.add_subplot()
        for row, interval in enumerate(intervals):
            axes.plot(interval, [row, row], color=BLUE, linewidth=3, alpha=0.45, zorder=2)
        axes.scatter(values, range(len(labels)), color=BLUE, s=34, label="measured", zorder=3)
        axes.set(yticks=range(len(labels)), ylim=(len(labels) - 0.4, -0.6))
        axes.set_yticklabels(labels)
        axes.grid(axis="y", visible=False)
        if published:
            _marks(axes, {labels.index(name): value for name, value in published.items()})
            legend_below(sheet)
        measured = [f"{name} {value:.3f}" for name, value in zip(labels, values, strict=True)]
        marked = "; ".join(f"{name} {value:.3f}" for name, value in published.items())
        return svg_figure(
            sheet,
            "values-with-intervals",
            f"Measured values with their intervals{', and published ones' if marked else ''}.",
            f"Measured: {'; '.join(measured)}.{f' Published: {marked}.' if marked else ''}",
        )


def embedding(points: np.ndarray, mos: Floats, intervals: int = 5) -> Figure:
    """Points in the plane coloured by score.

    Args:
        points: [n, 2], of t-SNE, say.
        mos: n scores; they are parted into ``intervals`` of equal width over [0, 1], or over
            their own range where that is wider.
        intervals: at most seven.
    """
    xy, scores = np.asarray(points, float), np.asarray(mos, float)
    edges = np.linspace(min(0.0, scores.min()), max(1.0, scores.max()), intervals + 1)
    which = np.clip(np.digitize(scores, edges) - 1, 0, intervals - 1)
    counts = np.bincount(which, minlength=intervals)
    # The ramp's pale end is left out: it would vanish on white.
    colours = mpl.colormaps[_RAMP](np.linspace(0, 0.92, intervals))
    with drawing(5.8, 6.2) as sheet:
        axes = sheet.add_subplot()
        for step, (colour, marker) in enumerate(zip(colours, MARKERS, strict=False)):
            x, y = xy[which == step].T
            label = f"{edges[step]:.1f} to {edges[step + 1]:.1f} ({counts[step]})"
            axes.scatter(x, y, color=tuple(colour), marker=marker, label=label, **dots(len(xy)))
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(True)
        legend_below(sheet)
        return svg_figure(
            sheet,
            "embedding",
            f"Embedding coloured by opinion score, in {intervals} intervals (images in brackets).",
            f"Scatter plot of {len(xy)} embedded images in {intervals} intervals of opinion score; "
            f"from the lowest: {', '.join(map(str, counts))} images.",
        )


def _points(axes: Axes, x: np.ndarray, y: np.ndarray, groups: Sequence[str]) -> None:
    names = np.asarray(groups or [""] * len(x))
    style = dots(len(x), alpha=0.75 if len(x) < 300 else 0.5)
    own = sorted(name for name, _ in Counter(names.tolist()).most_common(_OWN))
    for name, colour, marker in zip(own, PALETTE, MARKERS, strict=False):
        chosen = names == name
        axes.scatter(x[chosen], y[chosen], color=colour, marker=marker, label=name, **style)
    rest = ~np.isin(names, own)
    if rest.any():
        axes.scatter(x[rest], y[rest], color=GREY, label="others", **style)


def _boxes(axes: Axes, apart: Mapping[str, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    style = dots(sum(map(len, apart.values())), alpha=0.3, size=9)
    for row, values in enumerate(apart.values()):
        heights = row + rng.uniform(-0.22, 0.22, len(values))
        axes.scatter(values, heights, color=BLUE, **style)
    axes.boxplot(
        list(apart.values()),
        positions=range(len(apart)),
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        medianprops={"color": RED, "linewidth": 2},
        manage_ticks=False,
    )
    axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.grid(axis="y", visible=False)


def _marks(axes: Axes, published: Mapping[int, float]) -> None:
    """A diamond at each value, in the row that is its key."""
    axes.scatter(
        list(published.values()),
        list(published),
        s=30,
        marker="D",
        facecolors="white",
        edgecolors=RED,
        linewidths=1.5,
        label="published",
        zorder=4,
    )


def _curve_of(rows: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]]:
    points = [
        (float(row.get("epoch", number)), float(row[key]))
        for number, row in enumerate(rows, start=1)
        if row.get(key) is not None and np.isfinite(row[key])
    ]
    return [x for x, _ in points], [y for _, y in points]
