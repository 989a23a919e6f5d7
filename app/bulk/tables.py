"""Rows into a file as they come: CSV, JSON lines, Parquet.

CSV and JSON lines grow row by row. Parquet can't: its rows are kept in ``OUT.partial.jsonl`` beside
it until the run ends, and the file is then written at once.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from app.bulk.errors import CannotScore
from app.bulk.rows import COLUMNS, NUMBERS, Row
from model.store.files import replacing

CSV, JSONL, PARQUET = ".csv", ".jsonl", ".parquet"
FORMATS = (CSV, JSONL, PARQUET)


class CsvLines:
    """Rows as CSV into an open file; the header is written where ``header`` asks for it."""

    def __init__(self, file: IO[str], *, header: bool) -> None:
        self._file = file
        if header:
            self.write(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def write(self, row: Row) -> None:
        """Appends a row; it is in the file when this returns."""
        line = io.StringIO()
        # With this ending the module puts a lone \r in quotes too; without, it can't read it back.
        csv.DictWriter(line, COLUMNS, lineterminator="\r\n").writerow(row)
        self._file.write(line.getvalue().removesuffix("\r\n") + "\n")
        self._file.flush()


class JsonLines:
    """Rows as JSON lines into an open file."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, row: Row) -> None:
        """Appends a row; it is in the file when this returns."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


class Table:
    """OUT, open to take rows. ``finish`` once all are there; leaving without it keeps them for
    ``--resume``.

    Args:
        out: its suffix says the format.
        kept: rows that it begins with.
    """

    def __init__(self, out: Path, kept: Sequence[Row] = ()) -> None:
        self._out = out
        self._journal = journal_of(out) if out.suffix == PARQUET else out
        write_lines(self._journal, kept)
        self._file = self._journal.open("a", encoding="utf-8", newline="")
        as_csv = self._journal.suffix == CSV
        self._lines = CsvLines(self._file, header=False) if as_csv else JsonLines(self._file)

    def write(self, row: Row) -> None:
        """Appends a row; it is in the file when this returns."""
        self._lines.write(row)

    def finish(self) -> None:
        """Makes OUT whole."""
        self._file.close()
        if self._journal != self._out:
            write_parquet(self._out, read_jsonl(self._journal))
            self._journal.unlink()

    def close(self) -> None:
        """Closes the file, finished or not."""
        self._file.close()


def journal_of(out: Path) -> Path:
    """Where the rows of a Parquet file are until it is written."""
    return out.with_name(f"{out.name}.partial.jsonl")


def write_lines(file: Path, rows: Iterable[Row]) -> None:
    """Writes CSV or JSON lines with these rows, atomically."""
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as opened:
        lines = CsvLines(opened, header=True) if file.suffix == CSV else JsonLines(opened)
        for row in rows:
            lines.write(row)


def write_parquet(file: Path, rows: Sequence[Row]) -> None:
    """Writes a Parquet file with these rows, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: pa.string() for name in COLUMNS}
    types |= {name: pa.float64() for name in NUMBERS} | {"crops": pa.int32()}
    with replacing(file) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(types.items()))), temporary)


def read(file: Path) -> list[Row]:
    """The whole rows of a file that ``Table`` wrote; a last one that is cut off is left out.

    Raises:
        CannotScore: it holds something else.
    """
    readers = {CSV: read_csv, JSONL: read_jsonl, PARQUET: read_parquet}
    try:
        return readers[file.suffix](file)
    except (ValueError, LookupError, TypeError, csv.Error) as error:  # pyarrow's are ValueErrors
        raise CannotScore(f"{file} can't be read: it is no table of agiqa score") from error
    except OSError as error:
        raise CannotScore(f"{file}: {error.strerror or error}") from error


def read_csv(file: Path) -> list[Row]:
    """The rows of CSV, numbers as numbers, empty cells as None."""
    with file.open(encoding="utf-8", newline="") as opened:
        table = csv.DictReader(whole_records(opened), strict=True)
        rows = list(table)
    if rows or table.fieldnames:
        _require(file, table.fieldnames)
    return [{name: _value(name, row[name]) for name in COLUMNS} for row in rows]


def read_jsonl(file: Path) -> list[Row]:
    """The rows of JSON lines."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = [json.loads(line) for line in opened if line.endswith("\n")]
    for row in rows:
        _require(file, list(row))
    return rows


def read_parquet(file: Path) -> list[Row]:
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    _require(file, table.column_names)
    rows: list[Row] = table.to_pylist()
    return rows


def whole_records(lines: Iterable[str]) -> Iterator[str]:
    """Lines of CSV without a last record that is cut off: one that ends inside quotes, or before
    its line does.
    """
    record: list[str] = []
    quotes = 0
    for line in lines:
        record.append(line)
        quotes += line.count('"')
        if quotes % 2 == 0 and line.endswith("\n"):
            yield from record
            record = []


def _require(file: Path, columns: Sequence[str] | None) -> None:
    if tuple(columns or ()) != COLUMNS:
        raise CannotScore(
            f"{file} has other columns than agiqa score writes: name another file, or --overwrite"
        )


def _value(name: str, cell: str) -> Any:
    if cell == "":
        return None
    if name == "crops":
        return int(cell)
    return float(cell) if name in NUMBERS else cell
