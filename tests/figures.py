"""Figures of the documentation beside measured ones, and how near they lie on whatever machine.

The README, the pages, the model cards and the OpenAPI examples show figures of float32. Where the
device multiplies bfloat16 natively, ``auto`` takes that, and figures differ within these bounds.
``python -m tests.figures`` prints the dtype that ``auto`` does not take here.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Largest differences of scores in [0, 1] (of mos, as a part of its range), and of correlations.
SCORE = 3e-3
CORRELATION = 5e-3
# Of the probabilities of scenes and distortions, which a softmax spreads, and of their accuracies.
PROBABILITY = 1e-2
_SCORES = {"quality", "alignment", "consistency", "score", "mos"}
# What the machine chooses, and what differs with each request.
OF_THE_MACHINE = {"device", "dtype", "request_id"}

_DATA = Path(__file__).parents[2] / "shared" / "data"
AGIQA_3K = Path(os.environ.get("AGIQA_3K", _DATA / "AGIQA-3K"))
LIVE_CHALLENGE = Path(os.environ.get("LIVE_CHALLENGE", _DATA / "LIVE-Challenge"))


def assert_figure(name: str, shown: float, measured: float, span: float = 1.0) -> None:
    """Fails unless the figure of this name lies near; ``span``: of the scale that it is on."""
    if re.search("srcc|plcc|krcc", name):
        bound = CORRELATION
    else:
        bound = SCORE * span if name in _SCORES or "rmse" in name else PROBABILITY
    assert measured == pytest.approx(shown, abs=bound), name


def assert_figures(shown: Any, measured: Any, name: str = "") -> None:
    """Fails unless JSON is as shown: figures within their bounds, all else equal."""
    if isinstance(shown, dict):
        assert shown.keys() == measured.keys(), name
        for key, value in shown.items():
            if key == "mos":
                low, high = shown["mos_range"]
                assert_figure(key, value, measured[key], high - low)
            elif key not in OF_THE_MACHINE:
                assert_figures(value, measured[key], key)
    elif isinstance(shown, list):
        for one, other in zip(shown, measured, strict=True):
            assert_figures(one, other, name)
    elif isinstance(shown, float):
        assert_figure(name, shown, measured)
    else:
        assert measured == shown, name


def assert_printed(shown: str, printed: str) -> None:
    """Fails unless the figures that a page shows, some left out, were printed in this order."""
    spans = [float(high) - float(low) for low, high in _MOS_RANGE.findall(printed)]
    measured = figures(printed)
    for name, value in figures(shown):
        found = next((other for key, other in measured if key == name), None)
        assert found is not None, f"{name} {value} was not printed"
        assert_figure(name, value, found, spans[0] if name == "mos" else 1.0)


def figures(text: str) -> Iterator[tuple[str, float]]:
    """Names and figures: of a line of JSON its pairs, of another its first word with all figures of
    three places or more.
    """
    for line in text.splitlines():
        pairs = _PAIR.findall(line)
        if not pairs and line.split():
            pairs = [(line.split()[0], figure) for figure in _FIGURE.findall(line)]
        yield from ((name, float(figure)) for name, figure in pairs)


_PAIR = re.compile(r'"([\w -]+)":(-?\d+(?:\.\d+)?)(?=[,}\s])')
_FIGURE = re.compile(r"(?<![\w.])-?\d\.\d{3,}(?![\w.])")
_MOS_RANGE = re.compile(r'"mos_range":\[(-?[\d.]+),(-?[\d.]+)\]')


if __name__ == "__main__":
    from model.scorer import choose_device, choose_dtype

    auto = str(choose_dtype("auto", choose_device("auto"))).removeprefix("torch.")
    print("float32" if auto == "bfloat16" else "bfloat16")  # noqa: T201
