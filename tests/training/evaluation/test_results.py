"""Results by head, and the flat names that files give them."""

import json

import pytest

from model.config import Head
from model.store.checkpoint import bundled_names, find, read_config
from training.evaluation.results import (
    OWN_PROMPT,
    OWN_PROMPT_ALIGNED,
    Accuracy,
    HeadResult,
    Report,
    Share,
    flat_figures,
    flat_srcc,
)

QUALITY = HeadResult(0.9, 0.8, 0.85, 0.7, 0.1, 0.09, {"srcc": (0.8, 0.95)}, {"sd": 0.6}, 0.5)


@pytest.mark.parametrize("name", bundled_names())
def test_the_metrics_of_a_bundled_model_come_back_byte_for_byte(name: str) -> None:
    text = (find(name) / "metrics.json").read_text()
    content = json.loads(text)
    report = Report.from_dict(content)
    again = report.as_dict() | {"degraded": content["degraded"]}
    assert json.dumps(again, indent=2) + "\n" == text
    stated = read_config(find(name)).provenance.metrics
    assert {key: round(value, 4) for key, value in flat_figures({"set": report}).items()} == stated


def test_a_report_comes_back_from_its_dictionary() -> None:
    consistency = HeadResult(0.6, 0.6, 0.6, 0.5, 0.2, 0.2, baseline=0.4, permuted_srcc=0.55)
    accuracies = {"scene": Accuracy(0.7, 0.3), "distortion": Accuracy(0.5)}
    heads: dict[Head, HeadResult] = {"quality": QUALITY, "consistency": consistency}
    shares = {OWN_PROMPT: Share(0.7, (0.6, 0.8)), OWN_PROMPT_ALIGNED: Share(0.8, (0.7, 0.9))}
    report = Report("test", 9, 3, heads, accuracies, [{"mos": 0.1}], shares)
    content = json.loads(json.dumps(report.as_dict()))
    assert Report.from_dict(content, [{"mos": 0.1}]) == report


def test_one_baseline_stands_for_all_heads_of_an_opinion() -> None:
    aligned = HeadResult(0.6, 0.6, 0.6, 0.5, 0.2, 0.2, baseline=0.4)
    report = Report("test", 9, 3, {"alignment": aligned})
    assert report.flat_figures["floor_consistency_srcc"] == 0.4
    assert "floor_quality_srcc" not in report.flat_figures


def test_figures_of_several_sets_have_the_mean_in_front_and_the_set_behind() -> None:
    other = HeadResult(0.7, 0.8, 0.85, 0.7, 0.1, 0.09)
    heads = {"A": QUALITY, "B": other}
    figures = flat_figures({n: Report("test", 9, 3, {"quality": h}) for n, h in heads.items()})
    assert figures["quality_srcc"] == pytest.approx(0.8)
    assert (figures["quality_srcc_A"], figures["quality_srcc_B"]) == (0.9, 0.7)
    assert figures["floor_quality_srcc_A"] == 0.5


def test_the_figures_of_an_epoch_are_named_by_head_and_set() -> None:
    measured = {"A": {"quality": 0.5, "alignment": 0.4}, "B": {"quality": 0.3}}
    assert flat_srcc(measured) == {
        "quality_srcc_A": 0.5,
        "alignment_srcc_A": 0.4,
        "quality_srcc_B": 0.3,
    }


@pytest.mark.parametrize(("permuted", "rests"), [(0.85, True), (0.89, False), (None, False)])
def test_a_head_rests_on_the_prompt_if_another_prompt_costs_enough(
    permuted: float | None, rests: bool
) -> None:
    head = HeadResult(0.9, 0.8, 0.85, 0.7, 0.1, 0.09, permuted_srcc=permuted)
    assert head.rests_on_prompt is rests
    assert head.prompt_effect == (None if permuted is None else pytest.approx(0.9 - permuted))
