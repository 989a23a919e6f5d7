from pathlib import Path

import openpyxl
import pytest

from training.data.readers.rows import Row, read_csv, read_rows, read_sheet
from training.errors import DataError

TEXT = 'image,mos\na.png,1\n\n"b\n.png",NA\n'


def cells(row: Row) -> tuple[str, str, str]:
    return row.place.rpartition(" ")[2], row.text("image"), row.text("mos")


def test_cells_are_text_and_rows_have_their_number_in_the_file(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(TEXT, encoding="utf-8-sig")
    rows = read_rows(table, read_csv(table, {"image", "mos"}), cells)
    assert rows == [("2", "a.png", "1"), ("4", "b\n.png", "NA")]
    book = openpyxl.Workbook()
    for line in (["image", "mos"], ["a.png", 1.25], [None, None], ["NA", None]):
        book.worksheets[0].append(line)
    book.save(tmp_path / "t.xlsx")
    sheet = read_sheet(tmp_path / "t.xlsx", {"image", "mos"})
    assert read_rows(table, sheet, cells) == [("2", "a.png", "1.25"), ("4", "NA", "")]


def test_an_error_names_file_row_and_column(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(TEXT)
    with pytest.raises(DataError, match=r"t\.csv row 4, column mos is not as .*: .*'NA'"):
        read_rows(table, read_csv(table), lambda row: row.read("mos", float))


@pytest.mark.parametrize("row", ["a.png,1\nb.png, by night,2\n", "b.png, by night,2\n"])
def test_a_row_with_more_cells_than_the_header_is_refused(tmp_path: Path, row: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"image,mos\n{row}")
    with pytest.raises(DataError, match=r"t\.csv can't be read as a CSV .*: save it as one"):
        read_csv(table)


def test_an_empty_file_lacks_all_columns_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    with pytest.raises(DataError, match="lacks the columns image, mos"):
        read_csv(tmp_path / "t.csv", ["image", "mos"])
    with pytest.raises(DataError, match=r"has no u\.csv"):
        read_csv(tmp_path / "u.csv")
