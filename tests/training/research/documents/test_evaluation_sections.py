"""Evaluations as sections: what they show, and what they say in words."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.training.reports.reported import GENERATORS, report, with_quality
from training.evaluation.metrics import srcc
from training.evaluation.results import OWN_PROMPT, Accuracy, HeadResult, Report, Share
from training.research.documents.evaluation import evaluation_sections, figures_table
from training.research.documents.findings import findings, head_findings


def with_srcc(own: float, low: float, high: float) -> Report:
    return with_quality(srcc=own, intervals={"srcc": (low, high)})


@pytest.mark.parametrize(
    ("own", "low", "sentence"),
    [
        (0.29, 0.2, "is NOT above the no-image floor of 0.300"),
        (0.4, 0.25, "the floor lies within the interval"),
        (0.4, 0.35, "beats the no-image floor of 0.300"),
    ],
    ids=["below", "within", "above"],
)
def test_the_baseline_is_described_in_words(own: float, low: float, sentence: str) -> None:
    (found,) = findings(with_srcc(own, low, 0.5))
    assert sentence in found
    assert found.startswith(f"Quality: SRCC {own:.3f} ({low:.3f} to 0.500)")


def test_a_missing_baseline_is_not_spoken_of_and_a_part_that_is_no_test_is() -> None:
    assert not any("floor" in sentence for sentence in findings(with_quality(baseline=None)))
    assert "not on the test part" in findings(report(part="train"))[0]
    assert "knows those that it was trained on" in findings(report(part="all"))[0]


def test_rivals_are_beaten_ahead_or_inside_the_interval() -> None:
    sentences = head_findings(with_srcc(0.87, 0.857, 0.88), "quality", "AGIQA-3K")
    _, beaten, ahead, between, caveat = sentences
    assert beaten == "Quality beats the published SRCC of HyperIQA 0.8355 (by prompt)."
    assert "does not reach" in ahead
    assert "ACL-IQA 0.8969 (by prompt), MA-AGIQA 0.8939 (split unverified), IPCE" in ahead
    assert "RichIQA" not in ahead
    assert "CLIP-AGIQA 0.8747 (by prompt), IP-IQA 0.8634 (by prompt), RichIQA" in between
    assert "of one split" in caveat


@pytest.mark.parametrize("part", ["train", "validation", "all"])
def test_images_that_training_may_have_seen_are_not_compared_with_rivals(part: str) -> None:
    (_, sentence) = head_findings(report(part=part), "quality", "AGIQA-3K")
    assert sentence.startswith("Quality isn't compared")
    elsewhere = head_findings(report(part=part), "quality", "LIVE-Challenge", "KonIQ-10k")
    assert "the published SRCC of" in elsewhere[1]


def test_an_srcc_that_is_not_defined_beats_nothing() -> None:
    made = with_srcc(float("nan"), float("nan"), float("nan"))
    assert findings(made) == ("Quality: no SRCC is defined, for all predictions are the same.",)
    assert len(head_findings(made, "quality", "AGIQA-3K")) == 1


def test_a_model_from_another_set_is_compared_with_such_models_only() -> None:
    made = with_srcc(0.8, 0.79, 0.81)
    sentences = " ".join(head_findings(made, "quality", "LIVE-Challenge", "KonIQ-10k"))
    assert "does not reach the published SRCC of MP-IQE 0.844 (cross-dataset)" in sentences
    assert "LIQE" not in sentences
    sentences = " ".join(head_findings(made, "quality", "LIVE-Challenge", "AGIQA-3K"))
    assert "nothing published to compare with" in sentences
    assert "one split" not in sentences


@pytest.mark.parametrize(
    ("permuted", "sentence"), [(0.4, "the prompt counts"), (0.59, "does NOT rest on the prompt")]
)
def test_permuted_prompts_are_described_in_words(permuted: float, sentence: str) -> None:
    consistency = HeadResult(0.6, 0.6, 0.6, 0.5, 0.1, 0.1, permuted_srcc=permuted)
    assert sentence in findings(report(heads={"consistency": consistency}))[-1]


def test_the_table_has_every_figure_with_its_interval_and_its_baseline() -> None:
    made = report()
    quality = made.heads["quality"]
    (row,) = figures_table(made).rows
    cells = dict(zip(figures_table(made).header, row, strict=True))
    assert cells["SRCC (95 % interval)"] == f"{quality.srcc:.3f} (0.850 to 0.890)"
    assert cells["no-image floor"] == "0.300"
    assert cells["PLCC fitted"] == f"{quality.plcc_vqeg:.3f}"
    assert cells["RMSE"] == f"{quality.rmse:.3f}"


def test_other_figures_are_not_dropped() -> None:
    overview, *_ = evaluation_sections(report(accuracies={"scene": Accuracy(0.61, 0.5)}))
    assert overview.tables[1].rows == (
        ("floor scene accuracy", "0.500"),
        ("scene accuracy", "0.610"),
    )


def test_how_often_the_own_prompt_beats_another_is_in_the_tables_and_in_words() -> None:
    made = report(own_prompt={OWN_PROMPT: Share(0.721, (0.7, 0.75))})
    overview, *_ = evaluation_sections(made)
    assert overview.tables[1].rows == (("own prompt beats another", "0.721"),)
    assert "in 72.1% of pairs (70.0% to 75.0%); chance is 50%" in findings(made)[-1]


def test_the_jackknife_leaves_one_generator_out_at_a_time() -> None:
    made = report()
    _, quality, *_ = evaluation_sections(made)
    (table,) = quality.tables
    assert [row[0] for row in table.rows] == sorted(GENERATORS)
    for name, count, within, without in table.rows:
        rest = [row for row in made.predictions if row["generator"] != name]
        expected = srcc([r["quality"] for r in rest], [r["mos"] for r in rest])
        assert without == f"{expected:.3f}"
        assert within == f"{made.heads['quality'].within_generator[name]:.3f}"
        assert count == "20"


def test_contact_sheets_show_the_worst_and_the_best(tmp_path: Path) -> None:
    for number in range(30):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{number:02}.jpg")
    _, quality, *_ = evaluation_sections(report(tmp_path))
    sheets = [figure for figure in quality.figures if figure.kind == "jpeg"]
    assert [sheet.caption for sheet in sheets] == [
        "Most over-estimated.",
        "Most under-estimated.",
        "In best agreement.",
    ]
    rows = sorted(report().predictions, key=lambda row: row["mos"] - row["quality"])
    assert rows[0]["image"] in sheets[0].alt
    assert rows[-1]["image"] in sheets[1].alt


def test_rows_without_paths_and_generators_make_fewer_figures() -> None:
    bare = [{k: r[k] for k in ("image", "mos", "quality")} for r in report().predictions]
    made = replace(with_quality(within_generator={}), predictions=bare)
    overview, quality = evaluation_sections(made)
    assert [figure.name for figure in quality.figures] == [
        "quality-predicted-against-mos",
        "quality-reliability",
    ]
    assert quality.tables == ()
    assert overview.findings


def test_an_evaluation_without_single_predictions_still_tells_its_figures() -> None:
    overview, quality = evaluation_sections(report(predictions=[]))
    assert overview.tables
    assert quality.figures == ()
    assert quality.tables == ()


def test_constant_predictions_make_a_report_and_no_warning() -> None:
    rows = [{**row, "quality": 0.5} for row in report().predictions]
    undefined = with_quality(srcc=float("nan"), intervals={})
    _, quality = evaluation_sections(replace(undefined, predictions=rows))
    assert len(quality.figures) == 3


def test_what_was_published_stands_beside_where_the_data_set_is_known() -> None:
    titles = [section.title for section in evaluation_sections(report())]
    assert titles == ["Figures", "Quality score"]
    *_, beside = evaluation_sections(report(), data_set="AGIQA-3K")
    (table,) = beside.tables
    assert table.rows[0][:2] == ("this model, quality", "test part, one split")
    assert len(evaluation_sections(report(), data_set="nobody's")) == 2


def test_a_title_stands_before_sections_and_figures() -> None:
    sections = evaluation_sections(report(), "Round 1")
    assert [section.title for section in sections] == ["Round 1: figures", "Round 1: quality score"]
    assert sections[1].figures[0].name == "Round 1-quality-predicted-against-mos"
