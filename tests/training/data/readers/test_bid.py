from pathlib import Path

import pandas as pd
import pytest
import xlwt

from tests.training.photograph_sets import write_bid
from training.data import datasets
from training.data.readers import bid
from training.errors import DataError


def _write(path: Path, rows: list[list[object]]) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Grades")
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            sheet.write(i, j, cell)
    book.save(str(path))


def test_numbers_tell_the_images_and_grades_of_five_are_scores(tmp_path: Path) -> None:
    samples = bid.annotations(write_bid(tmp_path, images=0))
    assert len(samples) == 586
    assert samples[0].path == tmp_path / "DatabaseImage0001.JPG"
    assert samples[-1].path == tmp_path / "DatabaseImage0586.JPG"
    sheet = pd.read_excel(tmp_path / "DatabaseGrades.xls", engine="calamine")
    assert [s.mos for s in samples] == pytest.approx(list(sheet["Average Subjective Grade"] / 5))
    assert len({s.group for s in samples}) == 586


def test_images_are_found_flat_and_a_folder_deeper(tmp_path: Path) -> None:
    samples = datasets.read(write_bid(tmp_path, images=4))
    assert len(samples) == 4
    assert {s.dataset for s in samples} == {"BID"}
    (tmp_path / "ImageDatabase").mkdir()
    samples[0].path.rename(tmp_path / "ImageDatabase" / samples[0].path.name)
    samples[1].path.rename(samples[1].path.with_suffix(".jpg"))
    assert len(datasets.read(tmp_path)) == 4


def test_a_damaged_or_missing_table_is_named(tmp_path: Path) -> None:
    table = write_bid(tmp_path, images=0) / "DatabaseGrades.xls"
    content = table.read_bytes()
    for damaged in (b"", b"a,b\n1,2\n", content[:600], content[: len(content) // 2]):
        table.write_bytes(damaged)
        with pytest.raises(DataError, match=r"DatabaseGrades\.xls can't be read .*: take it"):
            bid.annotations(tmp_path)
    table.unlink()
    with pytest.raises(DataError, match=r"has no DatabaseGrades\.xls"):
        bid.annotations(tmp_path)


def test_a_table_without_grades_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "DatabaseGrades.xls", [["Image Number", "std"], [1, 0.5]])
    with pytest.raises(DataError, match="lacks the columns average subjective grade"):
        bid.annotations(tmp_path)
    _write(tmp_path / "DatabaseGrades.xls", [])
    with pytest.raises(DataError, match=r"lacks the columns average .*, image number"):
        bid.annotations(tmp_path)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (["one", 3.0], "image number"),
        ([1, "good"], "average subjective grade"),
        ([1, 37.0], "average subjective grade"),
        ([1, ""], "average subjective grade"),
    ],
)
def test_a_row_that_cant_be_read_is_named(tmp_path: Path, row: list[object], column: str) -> None:
    heading: list[object] = ["Image Number", "Average Subjective Grade"]
    _write(tmp_path / "DatabaseGrades.xls", [heading, [2, 3.5], row])
    with pytest.raises(DataError, match=rf"\.xls row 3, column {column} is not as distributed"):
        bid.annotations(tmp_path)


def test_a_part_of_the_table_is_refused(tmp_path: Path) -> None:
    heading: list[object] = ["Image Number", "Average Subjective Grade"]
    _write(tmp_path / "DatabaseGrades.xls", [heading, [2, 3.5]])
    with pytest.raises(DataError, match="BID has 586 images, but its table 1 row"):
        bid.annotations(tmp_path)
