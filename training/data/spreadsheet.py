"""The rows of an Excel file, as some data sets carry their annotations."""

from pathlib import Path
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from training.errors import DataError

Row = tuple[object, ...]


def read_rows(path: Path) -> list[Row]:
    """The rows of the first sheet of an .xlsx file, without those that are empty; cells are text,
    numbers or None.

    Raises:
        DataError: the file is not there, or can't be read.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}")
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, InvalidFileException, KeyError, OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as a spreadsheet: {error}") from error
    try:
        rows = list(book.worksheets[0].iter_rows(values_only=True))
    finally:
        book.close()
    return [row for row in rows if any(cell is not None for cell in row)]


def as_number(cell: object) -> float:
    """A cell's number.

    Raises:
        ValueError: it has none.
    """
    if isinstance(cell, (int, float, str)):
        return float(cell)
    raise ValueError(f"a number is missing, there is {cell!r}")
