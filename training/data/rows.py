"""Rows of tables that are no CSV, read one by one, so that an error names the row."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from training.data.samples import Sample
from training.errors import DataError

Row = TypeVar("Row")


def parse_rows(
    table: str, rows: Iterable[Row], parse: Callable[[Row], Sample], first: int = 1
) -> list[Sample]:
    """A sample of every row; ``first`` is the number of the first one in ``table``.

    Raises:
        DataError: a row that ``parse`` can't read (its number is named).
    """
    samples = []
    for number, row in enumerate(rows, start=first):
        try:
            samples.append(parse(row))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f"{table} row {number} is not as distributed: {error}") from error
    return samples
