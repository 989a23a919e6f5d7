"""What a data set says about an image, whatever the set; and how a table of images is read."""

import csv
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataError


@dataclass(frozen=True, slots=True)
class Sample:
    """One rated image: scores in [0, 1], high = better; what a set does not tell is None or empty.

    ``group`` is what a split must not tear apart: the prompt, the reference image, or the image.
    ``part`` is the part of the split that the set itself puts the image into.
    """

    dataset: str
    path: Path
    group: str
    mos: float
    mos_align: float | None = None
    prompt: str = ""
    generator: str = ""
    mode: str = ""
    scenes: tuple[str, ...] = ()
    distortion: str = ""
    part: str = ""

    @property
    def source(self) -> str:
        """Generator and mode, as the no-image floor and the captions use them; empty for
        photographs.
        """
        return f"{self.generator} {self.mode}".strip()


def read_table(
    folder: Path,
    table: str,
    columns: Collection[str],
    parse: Callable[[dict[str, str]], Sample],
) -> list[Sample]:
    """All samples of ``folder / table`` (CSV with a header), in its order, their images there or
    not.

    Raises:
        DataError: no table, a column missing, or a row that ``parse`` can't read (its line is
            named).
    """
    path = folder / table
    if not path.is_file():
        raise DataError(f"{folder} has no {table}")
    samples = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if lacking := set(columns) - set(rows.fieldnames or ()):
            raise DataError(f"{path} lacks the columns {', '.join(sorted(lacking))}")
        for line, row in enumerate(rows, start=2):
            try:
                samples.append(parse(row))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(f"{table} line {line} is not as distributed: {error}") from error
    return samples


def present(samples: list[Sample], folder: Path) -> list[Sample]:
    """Those whose image file is there.

    Raises:
        DataError: none is.
    """
    found = [sample for sample in samples if sample.path.is_file()]
    if not found:
        raise DataError(f"{folder} holds none of the {len(samples)} images that it lists")
    return found
