"""BID, Blurred Image Database (Ciancio et al., IEEE TIP 2011), read as distributed: photographs,
and ``DatabaseGrades.xls`` ("Image Number", "Average Subjective Grade").

586 photographs ``DatabaseImage{0001-0586}.JPG``, most of them blurred. Scores lie in 0..5,
high = better.
"""

from pathlib import Path

from training.data.dataset import DataSet
from training.data.paths import locate
from training.data.readers.rows import Row, read_rows, read_sheet, require
from training.data.samples import Sample

_TABLE = "DatabaseGrades.xls"
_COLUMNS = ("image number", "average subjective grade")


def annotations(folder: Path) -> list[Sample]:
    """Every row of ``DatabaseGrades.xls``; images lie flat or under ``ImageDatabase``.

    Raises:
        DataError: no table, a column missing, a row that can't be read, or another number of
            images.
    """
    table = folder / _TABLE
    frame = read_sheet(table).rename(columns=lambda title: str(title).strip().casefold())
    require(table, frame, _COLUMNS)
    place = locate(folder, folder / "ImageDatabase")
    number, grade = _COLUMNS

    def parse(row: Row) -> Sample:
        path = place(f"DatabaseImage{row.read(number, int):04}.JPG")
        return Sample(SET.name, path, path.name, row.read(grade, SET.unit))

    return SET.whole(read_rows(table, frame, parse))


SET = DataSet(
    name="BID",
    annotations=annotations,
    scale=(0, 5),
    marks=(_TABLE,),
    split_by="image",
    images=586,
    about="BID, Blurred Image Database (terms: ask its authors): photographs with opinion "
    "scores of quality.",
)
