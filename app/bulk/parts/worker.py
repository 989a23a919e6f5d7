"""A unit becomes its part: the one function that all drivers call."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from app.bulk.errors import CannotScore
from app.bulk.parts.output import RUN, Output
from app.bulk.parts.samples import Prompts, UnitFailed, samples
from app.bulk.parts.units import Unit
from app.bulk.rows import ModelFacts, Row, Scoring, row_of_each
from app.bulk.tables import as_arrow

_DEVICE_FAULT = "inference_failed"


class Setup(Protocol):
    """Something that scores, as a description that goes to other processes."""

    def facts(self) -> ModelFacts:
        """What its rows will say of the model."""

    def connect(self) -> Scoring:
        """Loads the model."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker needs to know, wherever it runs."""

    setup: Setup
    out: str
    prompts: Prompts
    model: tuple[str, str, str]  # name, revision, crop policy


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of a unit. ``fault``: why it has no part."""

    part: str
    images: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    fault: str | None = None


def identity(model: ModelFacts) -> tuple[str, str, str]:
    """What rows must have in common."""
    return model.name, model.revision, model.crop_policy


class Worker:
    """A loaded model that turns units into parts.

    Raises:
        CannotScore: the model can't be loaded here, or is another one here, or OUT is.
    """

    def __init__(self, work: Work) -> None:
        self._output = Output(work.out)
        self._prompts = work.prompts
        if self._output.run() is None:
            raise CannotScore(f"{work.out} has no {RUN} here: name one that all machines share")
        self._scoring = work.setup.connect()
        here = identity(self._scoring.model)
        if here != work.model:
            raise CannotScore(f"this worker has the model {here}, the run is of {work.model}")

    def work(self, unit: Unit, step: Callable[[bool], object] = bool) -> Receipt:
        """Scores a unit and writes its part; ``step`` is called for each image.

        A unit whose source can't be read, or on which the device fails image after image, gets no
        part: the next run tries it again.
        """
        if self._output.has(unit.part):  # from another job, or a try before this one
            return Receipt(unit.part)
        started = time.monotonic()
        try:
            rows = self._rows(unit, step)
        except UnitFailed as error:
            return Receipt(unit.part, fault=str(error))
        self._output.put(unit.part, as_parquet(rows))
        failures = Counter(row["code"] for row in rows if row["code"])
        return Receipt(unit.part, len(rows), dict(failures), time.monotonic() - started)

    def _rows(self, unit: Unit, step: Callable[[bool], object]) -> list[Row]:
        rows = []
        with samples(unit, self._prompts) as items:
            for row in row_of_each(self._scoring, items):
                rows.append(row)
                step(row["code"] is not None)
        if rows and all(row["code"] == _DEVICE_FAULT for row in rows):
            raise UnitFailed(f"{unit.place}: the model failed on every image; is the device well?")
        return rows


def as_parquet(rows: list[Row]) -> bytes:
    """The bytes of a Parquet file with these rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pa.BufferOutputStream() as buffer:
        pq.write_table(as_arrow(rows), buffer)
        return bytes(buffer.getvalue())
