"""Plots: what they tell, and that they are the same each time."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from reporting.document import Figure
from training.reports import drawing, plots

RNG = np.random.default_rng(0)
MOS = RNG.uniform(0, 1, 80)
PREDICTED = np.clip(MOS + RNG.normal(0, 0.1, 80), 0, 1)
GROUPS = [rf"$\no{n % 9}$ <b>" for n in range(80)]
HISTORY = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": float("nan")}, {"epoch": 3, "loss": 0.2}]

PLOTS: dict[str, Callable[[], Figure]] = {
    "scatter": lambda: plots.predicted_against_mos(PREDICTED, MOS, np.square, GROUPS),
    "plain scatter": lambda: plots.predicted_against_mos([0.1, 0.2], [0.1, 0.3], np.square),
    "residuals": lambda: plots.residuals_by_group(GROUPS, PREDICTED, MOS),
    "curves": lambda: plots.learning_curves({"a": HISTORY, "b": [{"other": 1}]}, ["loss", "other"]),
    "reliability": lambda: plots.reliability(PREDICTED, MOS),
    "bars": lambda: plots.bars_with_intervals(
        ["a", "b"], [0.8, 0.9], [(0.7, 0.85), (0.8, 0.95)], {"b": 0.88}
    ),
    "embedding": lambda: plots.embedding(np.stack([MOS, PREDICTED], 1), MOS),
}


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_every_plot_is_an_svg_of_the_same_bytes_each_time(plot: Callable[[], Figure]) -> None:
    figure = plot()
    assert figure == plot()
    assert figure.kind == "svg"
    assert ElementTree.fromstring(figure.image).tag.endswith("svg")
    assert b"<dc:date>" not in figure.image
    assert len(figure.alt) > 30
    assert figure.caption.endswith(".")


def test_thousands_of_points_become_one_picture_in_a_small_file() -> None:
    few, many = RNG.uniform(0, 1, 200), RNG.uniform(0, 1, 20000)
    assert b"<image" not in plots.predicted_against_mos(few, few, np.square).image
    for figure in (
        plots.predicted_against_mos(many, many[::-1], np.square),
        plots.residuals_by_group(["a", "b"] * 10000, many, many[::-1]),
        plots.embedding(np.stack([many, many[::-1]], 1), many),
    ):
        assert b"<image" in figure.image
        assert len(figure.image) < 700_000


def test_the_curve_is_asked_only_where_predictions_are() -> None:
    placed: list[np.ndarray] = []

    def curve(x: np.ndarray) -> np.ndarray:
        placed.append(x)
        return x

    plots.predicted_against_mos([0.2, 0.4, 0.7], [0.1, 0.5, 0.6], curve)
    assert (placed[0].min(), placed[0].max()) == (0.2, 0.7)


def test_residuals_are_sorted_by_their_median() -> None:
    groups = ["over", "over", "under", "under", "right", "right"]
    figure = plots.residuals_by_group(groups, [0.5] * 6, [0.2, 0.2, 0.9, 0.9, 0.5, 0.5])
    assert figure.alt.endswith("Medians: under -0.400; right +0.000; over +0.300.")


def test_reliability_tells_how_far_a_score_is_from_what_it_says() -> None:
    figure = plots.reliability([0.2] * 5 + [0.6] * 5, [0.3] * 5 + [0.6] * 5, bins=2)
    assert "by 0.050 on average, by 0.100 at most" in figure.alt
    assert "in 3 bins" in plots.reliability([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]).alt


def test_learning_curves_pass_over_epochs_without_a_value() -> None:
    figure = plots.learning_curves({"a": HISTORY, "b": [{"loss": 0.4}]}, ["loss"])
    assert "a: loss from 0.500 to 0.200; b: loss from 0.400 to 0.400" in figure.alt


def test_the_embedding_counts_the_images_of_each_score_interval() -> None:
    mos = [0.0, 0.19, 0.2, 0.5, 1.0, 0.99]
    figure = plots.embedding(np.zeros((6, 2)) + np.arange(6)[:, None], mos)
    assert figure.alt.endswith("from the lowest: 2, 1, 1, 0, 2 images.")


def test_published_values_stand_beside_measured_ones() -> None:
    figure = PLOTS["bars"]()
    assert figure.alt.endswith("Published: b 0.880.")
    without = plots.bars_with_intervals(["a"], [0.8], [(0.7, 0.9)], {})
    assert "ublished" not in without.alt + without.caption


def test_colours_differ_in_lightness_or_in_marker_and_line() -> None:
    assert len(drawing.PALETTE) == len(set(drawing.PALETTE)) == len(set(drawing.MARKERS))
    assert len(drawing.LINES) == len(drawing.PALETTE)
    assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in drawing.PALETTE)
