"""BID, Blurred Image Database (Ciancio et al., IEEE TIP 2011), read as distributed: photographs,
and ``DatabaseGrades.xls`` ("Image Number", "Average Subjective Grade").

586 photographs ``DatabaseImage{0001-0586}.JPG``, most of them blurred. Scores lie in 0..5,
high = better.
"""

import struct
from io import StringIO
from pathlib import Path

import xlrd

from model.config import ScoreRange
from training.data.dataset import DataSet
from training.data.places import locate
from training.data.rows import parse_rows
from training.data.samples import Sample
from training.errors import DataError

_TABLE = "DatabaseGrades.xls"
_COLUMNS = ("image number", "average subjective grade")
# What reading a damaged file ends in, besides xlrd's own errors.
_DAMAGED = (AssertionError, IndexError, KeyError, OSError, TypeError, ValueError, struct.error)


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``DatabaseGrades.xls``; images lie flat or under ``ImageDatabase``.

    Raises:
        DataError: no table, a column missing, a row that can't be read, or another number of
            images.
    """
    place = locate(folder, folder / "ImageDatabase")
    heading, *rows = _rows(folder / _TABLE) or [[]]
    titles = [str(title).strip().casefold() for title in heading]
    if lacking := [column for column in _COLUMNS if column not in titles]:
        raise DataError(f"{folder / _TABLE} lacks the columns {', '.join(lacking)}")
    number_at, grade_at = map(titles.index, _COLUMNS)

    def parse(row: list[object]) -> Sample:
        path = place(f"DatabaseImage{int(_number(row[number_at])):04}.JPG")
        return Sample(SET.name, path, path.name, SET.unit(_number(row[grade_at])))

    return SET.whole(parse_rows(_TABLE, rows, parse, first=2))


def _number(cell: object) -> float:
    if not isinstance(cell, float):
        raise ValueError(f"{cell!r} is no number")
    return cell


def _rows(path: Path) -> list[list[object]]:
    """Those of the first sheet, its heading among them, without empty ones."""
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}")
    try:
        # What xlrd has to say of a file goes to the standard output otherwise.
        sheet = xlrd.open_workbook(path, logfile=StringIO()).sheet_by_index(0)
        rows = [sheet.row_values(number) for number in range(sheet.nrows)]
    except (xlrd.XLRDError, xlrd.compdoc.CompDocError, *_DAMAGED) as error:
        raise DataError(
            f"{path} can't be read as an Excel file ({error}): take it from the release again"
        ) from error
    return [row for row in rows if any(cell != "" for cell in row)]


SET = DataSet(
    name="BID",
    annotations=annotations,
    score_range=ScoreRange(low=0, high=5),
    marks=(_TABLE,),
    split_by="image",
    images=586,
    about="BID, Blurred Image Database (terms: ask its authors): photographs with opinion "
    "scores of quality.",
)
