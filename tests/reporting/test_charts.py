"""Charts as SVG and as text."""

from xml.etree import ElementTree

import pytest

from reporting import charts
from reporting.text import counted, histogram, sparkline

SVG = "{http://www.w3.org/2000/svg}"


def test_a_histogram_has_a_bar_for_each_part_that_holds_images() -> None:
    svg = ElementTree.fromstring(charts.histogram((0, 1, 0, 4), 0.75))
    bars = svg.findall(f"{SVG}rect")
    assert [bar.findtext(f"{SVG}title") for bar in bars] == [
        "0.25 to 0.50: 1 image",
        "0.75 to 1.00: 4 images",
    ]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[1] == pytest.approx(4 * heights[0])
    (mean,) = (line for line in svg.findall(f"{SVG}line") if line.get("class") == "mean")
    assert float(mean.attrib["x1"]) == 300
    assert mean.findtext(f"{SVG}title") == "mean 0.750"


def test_an_empty_histogram_has_no_bars() -> None:
    assert b"<rect" not in charts.histogram((0, 0), 0.0)


def test_a_scatter_has_a_dot_for_each_pair_and_names_its_axes() -> None:
    svg = ElementTree.fromstring(charts.scatter([(0, 0), (0.5, 1)], "a<b", "up"))
    path = svg.find(f".//{SVG}path")
    assert path is not None
    assert path.attrib["d"] == "M0.0 360.0h0M180.0 0.0h0"
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert texts.count("a<b") == texts.count("up") == 1


CURVES = charts.curves(
    {"ours": [(1, 0), (10, 1)], "a<b": [(100, 0.5)]},
    ("measured", [(10, 0.5)]),
    across="load",
    up="part",
    ticks=((1, 10, 100), (0.0, 0.5, 1.0)),
)


def test_curves_lie_on_a_logarithmic_axis_and_have_their_names() -> None:
    svg = ElementTree.fromstring(CURVES)
    paths = {path.findtext(f"{SVG}title"): path.attrib["d"] for path in svg.iter(f"{SVG}path")}
    assert paths["ours"] == "M0.0 260.0L280.0 0.0"
    assert paths["a<b"] == "M560.0 130.0"
    (dots,) = (path for path in svg.iter(f"{SVG}path") if path.get("class") == "dots")
    assert dots.attrib["d"].startswith("M280.0 130.0h0")
    texts = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"ours", "a<b", "measured", "load", "part", "1", "10", "100", "0.5"} <= set(texts)


def test_a_chart_stands_alone_with_its_style_and_a_ground_under_all_of_it() -> None:
    svg = ElementTree.fromstring(charts.standalone(CURVES, ".axis { stroke: red; }"))
    style, ground = list(svg)[:2]
    assert style.text == ".axis { stroke: red; }"
    box = " ".join(ground.attrib[name] for name in ("x", "y", "width", "height"))
    assert (ground.attrib["class"], box) == ("ground", svg.attrib["viewBox"])
    assert len(svg) == len(ElementTree.fromstring(CURVES)) + 2


def test_sparklines_are_as_high_as_their_counts_and_lose_none() -> None:
    assert sparkline((0, 1, 1000, 500), "utf-8") == " ▁█▄"
    for encoding in ("ascii", "no-such-encoding", None):
        assert sparkline((0, 1, 1000, 500), encoding) == " .@="


def test_a_histogram_as_text_has_a_line_for_each_bin() -> None:
    assert list(histogram((1, 0, 2), (1, 2, 3, 4))) == [
        f"{1:14} |{'#' * 20} 1",
        f"{2:14} | 0",
        f"{3:14} |{'#' * 40} 2",
    ]


def test_counts_come_with_their_noun() -> None:
    assert [counted(n, "image") for n in (0, 1, 2500)] == ["0 images", "1 image", "2,500 images"]
