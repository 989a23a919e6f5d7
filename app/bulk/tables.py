"""Rows into a file as they come: CSV, JSON lines, Parquet.

CSV and JSON lines grow row by row. Parquet can't: its rows are kept in ``OUT.partial.jsonl`` beside
it until the run ends, and the file is then written at once.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from app.bulk.errors import CannotScore
from app.bulk.rows import COLUMNS, NUMBERS, Row
from model.store.files import replacing

CSV, JSONL, PARQUET = ".csv", ".jsonl", ".parquet"
FORMATS = (CSV, JSONL, PARQUET)
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
Write = Callable[[Row], None]


class TextWriter(Protocol):
    """What rows are written to."""

    def write(self, text: str, /) -> object:
        """Takes a text."""

    def flush(self) -> None:
        """Passes on what it has."""


def is_folder(out: str) -> bool:
    """Whether OUT is a folder of parts and no table: an address, or a path without a suffix."""
    no_table = Path(out).suffix not in FORMATS and (not Path(out).suffix or Path(out).is_dir())
    return "://" in out or out.endswith("/") or no_table


@contextmanager
def opened(out: Path, kept: Sequence[Row] = ()) -> Iterator[Write]:
    """OUT, open to take rows. It is whole once the block ends well; rows of a block that an error
    ends are kept for ``--resume``.

    Args:
        out: its suffix says the format.
        kept: rows that it begins with.
    """
    journal = journal_of(out)
    with replacing(journal) as temporary, _text(temporary, "w") as file:
        write_all(file, kept, journal.suffix)
    with _text(journal, "a") as file:
        yield writer(file, journal.suffix)
    if journal != out:
        write_parquet(out, read_jsonl(journal))
        journal.unlink()


def journal_of(out: Path) -> Path:
    """Where the rows are until OUT is whole: beside a Parquet file, else in OUT itself."""
    return out.with_name(f"{out.name}.partial.jsonl") if out.suffix == PARQUET else out


def write_all(file: TextWriter, rows: Iterable[Row], suffix: str = CSV) -> Write:
    """Begins a file of CSV or JSON lines with these rows; returns what appends to it."""
    write = writer(file, suffix)
    if suffix == CSV:
        write(dict(zip(COLUMNS, COLUMNS, strict=True)))
    for row in rows:
        write(row)
    return write


def writer(file: TextWriter, suffix: str) -> Write:
    """Appends rows as CSV or JSON lines; each is in the file when the call returns."""
    as_line = _csv_line if suffix == CSV else _json_line

    def write(row: Row) -> None:
        file.write(as_line(row))
        file.flush()

    return write


def _csv_line(row: Row) -> str:
    line = io.StringIO()
    row = {name: _quoted(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
    # With this ending the module puts a lone \r in quotes too; without, it can't read it back.
    csv.DictWriter(line, COLUMNS, lineterminator="\r\n").writerow(row)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _json_line(row: Row) -> str:
    return json.dumps(row) + "\n"


def write_parquet(file: Path, rows: Sequence[Row]) -> None:
    """Writes a Parquet file with these rows, atomically."""
    import pyarrow.parquet as pq

    with replacing(file) as temporary:
        pq.write_table(as_arrow(rows), temporary)


def as_arrow(rows: Sequence[Row]) -> Any:
    """A ``pyarrow.Table`` of these rows, of the same types whatever they hold."""
    import pyarrow as pa

    types = {str: pa.string(), float: pa.float64(), int: pa.int32()}
    schema = pa.schema([(name, types[NUMBERS.get(name, str)]) for name in COLUMNS])
    return pa.Table.from_pylist(list(rows), schema)


def read(file: Path) -> list[Row]:
    """The whole rows of a file that ``opened`` wrote; a last one that is cut off is left out.

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
    with _text(file, "r") as lines:
        table = csv.DictReader(whole_records(lines), strict=True)
        rows = list(table)
    if rows or table.fieldnames:
        _require(file, table.fieldnames)
    return [{name: _value(name, row[name]) for name in COLUMNS} for row in rows]


def read_jsonl(file: Path) -> list[Row]:
    """The rows of JSON lines."""
    with _text(file, "r") as lines:
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
    for row in rows:
        _require(file, list(row))
    return rows


def read_parquet(file: Path) -> list[Row]:
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    _require(file, table.column_names)
    return cast("list[Row]", table.to_pylist())


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


def _text(file: Path, mode: str) -> IO[str]:
    return file.open(mode, encoding="utf-8", newline="")


def _require(file: Path, columns: Sequence[str] | None) -> None:
    if tuple(columns or ()) != COLUMNS:
        raise CannotScore(
            f"{file} has other columns than agiqa score writes: name another file, or --overwrite"
        )


def _value(name: str, cell: str) -> Any:
    if not cell:
        return None
    return NUMBERS[name](cell) if name in NUMBERS else _unquoted(cell)


def _quoted(text: str) -> str:
    """With an apostrophe before what a spreadsheet would run as a formula: names of files and the
    prompts in images are anybody's words. One more where some are there, so that ``_unquoted``
    gives the same text back.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def _unquoted(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
