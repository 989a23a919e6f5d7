"""Every table of both papers from its command to its last row, on miniatures."""

import json
import re
from pathlib import Path

import pytest

from tests.training.research.reproduce.miniatures import reproduce
from training.commands.reproduce import _TABLES
from training.research.published import published
from training.research.reproduce.catalogue import TABLES


def rows_of(output: str) -> list[list[str]]:
    """The cells of every line of the tables that were printed."""
    lines = [line for line in output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_table_runs_end_to_end_and_is_printed_whole(
    table: str, sets: Path, backbone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = reproduce(table, sets, backbone, out, "--rounds", 1, "--partial")
    assert done.exit_code == 0, done.output
    rows = rows_of(done.output)
    shown = TABLES[table]
    for cell in (cell for head in shown.heads for cell in shown.published(head)):
        places = 4 if "secondary" in cell.source and cell.target == "quality" else 3
        text = f"{cell.value:.{places}f}"
        assert any(cell.method == row[0] and text in row for row in rows), cell
    ours = [row for row in rows if row[0].endswith(", measured here")]
    assert ours
    numbers = [cell for row in ours for cell in row[2:]]
    assert any(re.fullmatch(r"-?0\.\d+", cell) for cell in numbers)
    assert not list(out.rglob("*.state.pt"))
    report = (out / table / "report.md").read_text()
    # Across sets there is no test part of one's own to choose an epoch on; LIQE has a validation
    # part, as its script does.
    assert ("PUBLISHED PROTOCOL" in report) == (table not in {"mp-iqe-3", "liqe"})
    assert "images of" in report
    assert str(sets) not in report


def test_the_command_names_every_table_and_no_other() -> None:
    assert tuple(TABLES) == _TABLES
    printed = {table.number for table in TABLES.values() if table.number}
    assert printed == {cell.table for cell in published(method=None) if cell.table}


@pytest.mark.slow
def test_rows_of_several_methods_stand_each_behind_its_own(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    """And ten rounds are medians, of which a finished table takes none anew."""
    out = tmp_path / "out"
    done = reproduce("mp-iqe-2", sets, backbone, out, "--rounds", 2, "--partial")
    assert done.exit_code == 0, done.output
    rows = rows_of(done.output)
    methods = [row[0] for row in rows[1:]]
    for method in ("CLIP-IQA", "CLIP-IQA+", "MP-IQE"):
        assert methods[methods.index(method) + 1] == f"{method}, measured here"
    mine = rows[1 + methods.index("MP-IQE, measured here")]
    assert "median of 2 rounds" in mine[1]
    results = sorted(out.rglob("result.json"))
    assert len(results) == 2 + 1 + 2 + 1 + 2 + 2
    untrained = [r for r in results if "without-training" in str(r)]
    assert all(json.loads(r.read_text())["history"] == [] for r in untrained)
    written = [result.stat().st_mtime_ns for result in results]
    again = reproduce("mp-iqe-2", sets, backbone, out, "--rounds", 2, "--partial")
    assert rows_of(again.output) == rows
    assert [result.stat().st_mtime_ns for result in results] == written


@pytest.mark.slow
def test_tables_share_the_runs_that_they_have_in_common(
    sets: Path, backbone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert reproduce("mp-iqe-2", sets, backbone, out, "--rounds", 1, "--partial").exit_code == 0
    planned = reproduce("mp-iqe-1", sets, backbone, out, "--rounds", 1, "--plan")
    finished = {
        line.split()[1]: line.split()[3]
        for line in planned.output.splitlines()
        if line.startswith("  rounds ")
    }
    assert finished["mp-iqe/koniq-10k"] == finished["mp-iqe/live-challenge"] == "1"
    assert finished["mp-iqe/live"] == "0"
