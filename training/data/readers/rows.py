"""Tables of images, read by pandas as text; their rows one by one, so that an error names file, row
and column.
"""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from training.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: ``place`` names it in messages, ``cells`` are by the names of their columns."""

    place: str
    cells: Mapping[str, Any]

    def read(self, column: str, convert: Callable[[Any], T]) -> T:
        """What ``convert`` makes of a cell.

        Raises:
            DataError: it can't (row and column are named).
        """
        try:
            return convert(self.cells[column])
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise DataError(
                f"{self.place}, column {column} is not as distributed: {error}"
            ) from error

    def text(self, column: str) -> str:
        """A cell without the blanks around it."""
        return self.read(column, str.strip)


def read_csv(path: Path, columns: Collection[str] = (), **layout: Any) -> pd.DataFrame:
    """A CSV in UTF-8, whose rows are numbered as in the file: a header is row 1.

    Args:
        path: of the file.
        columns: that it needs.
        layout: of one that has other separators or no header, as ``pandas.read_csv`` takes it.

    Raises:
        DataError: no such file or column, or it can't be read.
    """
    text = {"dtype": str, "na_filter": False, "skip_blank_lines": False, "encoding": "utf-8-sig"}
    with reading(path, "a CSV", "save it as one, in UTF-8"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # cells that have no column
        try:
            frame = pd.read_csv(path, index_col=False, **text, **layout)
        except pd.errors.EmptyDataError:
            frame = pd.DataFrame()
    return _numbered(path, frame, columns, layout)


def read_sheet(path: Path, columns: Collection[str] = (), **layout: Any) -> pd.DataFrame:
    """The first sheet of an Excel file (.xls, .xlsx), as ``read_csv``."""
    with reading(path, "a spreadsheet"):
        frame = pd.read_excel(path, engine="calamine", dtype=str, na_filter=False, **layout)
    return _numbered(path, frame, columns, layout)


def read_rows(path: Path, frame: pd.DataFrame, parse: Callable[[Row], T]) -> list[T]:
    """What ``parse`` makes of each row of a table; the frame's index has the rows' numbers.

    Raises:
        DataError: as ``Row.read``.
    """
    rows = frame.to_dict("index").items()
    return [parse(Row(f"{path} row {number}", cells)) for number, cells in rows]


def require(path: Path, frame: pd.DataFrame, columns: Collection[str]) -> None:
    """Raises DataError for columns that the table lacks."""
    if lacking := set(columns) - set(frame.columns):
        raise DataError(f"{path} lacks the columns {', '.join(sorted(lacking))}")


@contextmanager
def reading(
    path: Path, form: str, remedy: str = "take it from the release again"
) -> Iterator[None]:
    """Names a file that is missing or damaged; libraries end in errors of all kinds then.

    Raises:
        DataError: instead of any other error.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}")
    try:
        yield
    except Exception as error:
        raise DataError(
            f"{path} can't be read as {form} ({str(error).strip()}): {remedy}"
        ) from error


def _numbered(
    path: Path, frame: pd.DataFrame, columns: Collection[str], layout: Mapping[str, Any]
) -> pd.DataFrame:
    """Without its empty rows."""
    require(path, frame, columns)
    frame.index += 1 if layout.get("header", 0) is None else 2
    return frame[(frame != "").any(axis=1)]
