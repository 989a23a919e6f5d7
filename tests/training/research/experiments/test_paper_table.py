"""The paper's table with our rows in it."""

from training.research.experiments.paper_table import MeasuredRow, Place, whole_table
from training.research.published import published


def row(setting: str, name: str, **srcc: list[float]) -> MeasuredRow:
    values = {Place("", tested, "SRCC"): figures for tested, figures in srcc.items()}
    return MeasuredRow("MP-IQE", setting, name, values)


def test_every_published_row_stands_in_its_order_and_ours_behind_the_one_it_repeats() -> None:
    table = whole_table(published(table="5"), [row("train 40%", "ours", LIVE=[0.5, 0.7, 0.6])], "")
    assert table.header == (
        *("method", "setting", "LIVE PLCC", "LIVE SRCC", "LIVEC PLCC", "LIVEC SRCC"),
    )
    keys = [line[:2] for line in table.rows]
    assert ("ViT-BIQA", "train 20%") in keys
    assert ("HyperNet", "train 60%") in keys
    place = keys.index(("MP-IQE", "train 40%"))
    assert table.rows[place][2:] == ("0.974", "0.972", "0.889", "0.856")
    assert table.rows[place + 1] == (
        *("MP-IQE, measured here", "ours; median of 3 rounds", "-", "0.600", "-", "-"),
    )
    assert len(table.rows) == 9 + 1


def test_across_sets_every_rival_and_pair_has_its_place() -> None:
    values = {Place("LIVE", "CSIQ", "SRCC"): [0.7]}
    ours = MeasuredRow("MP-IQE", "cross-dataset", "full model", values)
    table = whole_table(published(table="3"), [ours], "")
    assert table.header[2:] == (
        *("LIVEC to KonIQ SRCC", "KonIQ to LIVEC SRCC", "LIVE to CSIQ SRCC", "CSIQ to LIVE SRCC"),
    )
    assert [line[0] for line in table.rows] == [
        *("DBCNN", "P2P-BM", "HyperIQA", "TReS", "MP-IQE", "MP-IQE, measured here"),
    ]
    assert table.rows[1][2:] == ("0.740", "0.770", "0.712", "-")
    assert table.rows[-1][2:] == ("-", "-", "0.700", "-")


def test_one_row_holds_what_was_measured_on_several_sets() -> None:
    rows = [row("", "full model", LIVE=[0.9, 0.8]), row("", "full model", KonIQ=[0.7])]
    table = whole_table(published(table="1"), rows, "")
    (mine,) = [line for line in table.rows if line[0] == "MP-IQE, measured here"]
    assert mine[1] == "full model; median of 1 or 2 rounds"
    assert mine[table.header.index("LIVE SRCC")] == "0.850"
    assert mine[table.header.index("KonIQ SRCC")] == "0.700"


def test_a_row_that_nobody_published_comes_last_with_mean_and_deviation() -> None:
    table = whole_table([], [row("visual only", "visual only", CSIQ=[0.5, 0.7])], "", mean=True)
    assert table.header == ("method", "setting", "CSIQ SRCC")
    assert table.rows[0][1:] == ("visual only; mean of 2 rounds", "0.6000 ± 0.1414")


def test_a_round_without_a_figure_is_left_out() -> None:
    table = whole_table([], [row("", "x", CSIQ=[float("nan"), 0.7])], "")
    assert table.rows[0][-1] == "0.700"
