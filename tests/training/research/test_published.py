"""The published figures, and tables of them."""

import pytest

from training.research.published import (
    Measured,
    comparison,
    decimals,
    published,
    rivals,
    rows,
    value,
)


@pytest.mark.parametrize(
    ("filters", "figure"),
    [
        ({"method": "MP-IQE", "tested_on": "LIVEC", "metric": "SRCC", "table": "1"}, 0.9),
        ({"method": "MP-IQE", "tested_on": "KonIQ-10k", "metric": "PLCC", "table": "1"}, 0.904),
        ({"method": "LIQE", "tested_on": "KADID-10k", "metric": "SRCC"}, 0.93),
        ({"method": "CLIP-AGIQA", "tested_on": "AGIQA-3K", "metric": "SRCC"}, 0.8747),
        ({"method": "CLIP-AGIQA", "tested_on": "AIGCIQA2023", "metric": "PLCC"}, 0.8604),
        (
            {"method": "MP-IQE", "trained_on": "KonIQ-10k", "tested_on": "LIVE-Challenge"},
            0.844,
        ),
        (
            {
                "method": "MP-IQE",
                "setting": "w/o Scene prompts",
                "tested_on": "CSIQ",
                "metric": "SRCC",
            },
            0.956,
        ),
        ({"method": "nobody"}, None),
    ],
)
def test_published_figures_are_those_of_the_papers(
    filters: dict[str, str], figure: float | None
) -> None:
    assert value(**filters) == figure


def test_all_cells_are_there_and_of_known_metrics() -> None:
    assert len(rows()) == 274
    assert {row.metric for row in rows()} == {"SRCC", "PLCC"}
    assert all(0 < row.value < 1 for row in rows())
    assert published() == list(rows())


def test_an_empty_setting_asks_for_rows_without_one() -> None:
    plain = published(method="MP-IQE", setting="", tested_on="LIVEC", metric="SRCC")
    assert {row.table for row in plain} == {"1", "2"}
    assert len(published(method="MP-IQE", tested_on="LIVEC", metric="SRCC")) > len(plain)


def test_a_question_with_several_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="different published figures"):
        value(method="MP-IQE", tested_on="LIVEC")


def test_rivals_of_quality_and_alignment_are_kept_apart() -> None:
    quality, alignment = rivals("AGIQA-3K"), rivals("AGIQA-3K", "alignment")
    assert {row.method for row in quality} & {"CLIPScore", "LMM4LMM"} == set()
    assert {row.method for row in alignment} & {"CLIP-AGIQA", "HyperIQA"} == set()
    assert len(quality) + len(alignment) == len(published(tested_on="AGIQA-3K"))


def test_a_comparison_puts_measured_rows_first_and_rivals_by_rank_with_their_source() -> None:
    own = Measured("ours", {"SRCC": 0.87123}, "test part", "KonIQ-10k")
    table = comparison("LIVE-Challenge", measured=[own])
    assert table.header == ("method", "setting", "SRCC", "PLCC", "source")
    assert table.rows[:3] == (
        ("ours", "test part, trained on KonIQ-10k", "0.871", "-", "measured here"),
        ("LIQE", "", "0.904", "0.910", "MP-IQE paper, table 1"),
        ("MP-IQE", "", "0.900", "0.916", "MP-IQE paper, tables 1 and 2"),
    )
    cross = ("MP-IQE", "cross-dataset, trained on KonIQ", "0.844", "-", "MP-IQE paper, table 3")
    assert cross in table.rows
    ranks = [float(row[2]) for row in table.rows[1:]]
    assert ranks == sorted(ranks, reverse=True)


def test_a_comparison_shows_the_settings_of_secondary_figures() -> None:
    table = comparison("AGIQA-3K")
    assert table.rows[0] == (
        "ACL-IQA",
        "quality; by prompt",
        "0.8969",
        "0.9282",
        "secondary source",
    )
    assert ("MA-AGIQA", "quality; split unverified") in {row[:2] for row in table.rows}
    assert ("CLIPScore", "alignment; zero-shot") in {
        row[:2] for row in comparison("AGIQA-3K", target="alignment").rows
    }


def test_studies_of_a_method_stand_in_no_comparison() -> None:
    ablation = "w/o Scene prompts"
    assert all(row[1] != ablation for row in comparison("LIVEC").rows)
    assert published(setting=ablation, tested_on="LIVEC")
    assert comparison("a set nobody knows").rows == ()


def test_decimals_are_those_of_the_papers() -> None:
    assert decimals([0.9, 0.871]) == 3
    assert decimals([0.9, 0.8747]) == 4
