"""Scoring on Ray: the driver of ``agiqa score --ray``, and ``Score`` for other people's pipelines.

Ray Data retries what a lost actor was at, and which unit has its part is read from OUT: nothing
here keeps a state. The extra ``ray`` brings it; nothing imports ray before ``over_cluster``.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.bulk.errors import CannotScore, Stopped, require
from app.bulk.parts.storage import Remote, is_address
from app.bulk.parts.units import Unit
from app.bulk.parts.worker import Receipt, Work, Worker
from app.bulk.rows import COLUMNS, Item, row_of_each
from app.bulk.setup import LocalSetup
from app.bulk.tables import as_arrow
from model.config import Head

# One more than is worked on.
_AHEAD = 2


class Score:
    """A callable class for ``dataset.map_batches``: columns ``bytes`` or ``path``, optional
    ``prompt``, become the columns of ``agiqa score``; flat columns of other names stay.

        dataset.map_batches(Score, fn_constructor_kwargs={"checkpoint": "tiny-clip-agiqa"},
                            batch_size=1024, compute=ActorPoolStrategy(size=4), num_gpus=1)

    What can't be scored is a row with its ``code``. Batches of a thousand and more keep the
    decoding processes busy, which begin anew with each batch.

    Args:
        checkpoint, heads, device, dtype, crop_policy, decode_workers: as ``LocalSetup``.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        *,
        heads: Sequence[Head] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        crop_policy: str | None = None,
        decode_workers: int | None = None,
    ) -> None:
        chosen = tuple(heads) if heads is not None else None
        setup = LocalSetup(checkpoint, device, dtype, crop_policy, decode_workers, chosen)
        self._scoring = setup.connect()

    def __call__(self, batch: Mapping[str, Any]) -> Any:
        """A ``pyarrow.Table``, a row for each of the batch (column -> array of n)."""
        import pyarrow as pa

        count = len(next(iter(batch.values()), ()))
        items = [_item(batch, number) for number in range(count)]
        table = as_arrow(list(row_of_each(self._scoring, items)))
        for name, values in batch.items():
            if name not in ("bytes", *COLUMNS) and getattr(values, "ndim", 1) == 1:
                table = table.append_column(name, pa.array(list(values)))
        return table


class _Bytes:
    """An image of a batch."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self._data = name, data

    def read_bytes(self) -> bytes:
        return self._data


def _item(batch: Mapping[str, Any], number: int) -> Item:
    data = batch["bytes"][number] if "bytes" in batch else None
    path, prompt = _text(batch, "path", number) or "", _text(batch, "prompt", number)
    if isinstance(data, bytes | bytearray | memoryview):
        return Item(Path(path or f"#{number}"), prompt, _Bytes(path or f"#{number}", bytes(data)))
    if is_address(path):
        return Item(Path(path), prompt, Remote(path, path))
    return Item(Path(path), prompt)


def _text(batch: Mapping[str, Any], name: str, number: int) -> str | None:
    """The text of a cell; pandas has NaN where there is none."""
    cell = batch[name][number] if name in batch else None
    return str(cell) if isinstance(cell, str) and cell.strip() else None


class _UnitScorer:
    """A ``Worker`` as an actor: rows of pickled units become rows of pickled receipts."""

    def __init__(self, work: Work, folder: str) -> None:
        _go_to(folder)
        self._worker = Worker(work)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        receipts = [self._worker.work(pickle.loads(unit)) for unit in batch["unit"]]
        return {"receipt": [pickle.dumps(receipt) for receipt in receipts]}


def over_cluster(
    units: Callable[[], Iterator[Unit]], count: int, work: Work, address: str
) -> Iterator[Receipt]:
    """Units over a pool of actors, one per GPU of the cluster, or per CPU where it has none.

    A task of the cluster finds the units, as far ahead as Ray lets it: this process never holds
    them. A worker that dies is begun again, and does its unit again.

    Args:
        units: begins to find those that are to be done, always the same ones.
        count: how many they are.
        work: what each actor loads.
        address: of the cluster; ``""`` begins one on this machine.

    Raises:
        CannotScore: ray is not installed, or there is no such cluster.
        Stopped: a worker can't begin, or the inputs can't be read there.
    """
    require("ray", "--ray", extra="ray")
    import ray

    folder = os.getcwd()

    def found(_one: Mapping[str, Any]) -> Iterator[dict[str, list[bytes]]]:
        _go_to(folder)
        for unit in units():
            yield {"unit": [pickle.dumps(unit)]}

    gpus, cpus = _connected(address)
    actors = max(1, min(gpus or cpus, count))
    receipts = (
        ray.data.from_items([{"all": 0}])
        .map_batches(found, batch_size=1, num_cpus=0)
        .map_batches(
            _UnitScorer,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                initial_size=actors,
                max_size=actors,
                max_tasks_in_flight_per_actor=_AHEAD,
            ),
            num_gpus=1 if gpus else None,
            num_cpus=None if gpus else 1,
            fn_constructor_args=(work if gpus else _on_one_core(work), folder),
        )
    )
    try:
        for row in receipts.iter_rows():
            yield pickle.loads(row["receipt"])
    except ray.exceptions.RayError as error:
        raise Stopped(f"Ray has given up: {str(error).splitlines()[-1]}") from error


def _connected(address: str) -> tuple[int, int]:
    """GPUs and CPUs of the cluster that this process is in by now."""
    import ray

    own = {} if address else {"include_dashboard": False}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address or "local", ignore_reinit_error=True, **quiet, **own)
    except (ConnectionError, ValueError) as error:
        raise CannotScore(f"--ray {address}: {error}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A block for each unit and each receipt: with more in one, an actor would get many at once.
    context.target_max_block_size = 1
    resources = ray.cluster_resources()
    return int(resources.get("GPU", 0)), int(resources.get("CPU", 1))


def _on_one_core(work: Work) -> Work:
    """With one process that decodes, unless somebody chose: there is an actor for each core."""
    setup = work.setup
    if isinstance(setup, LocalSetup) and setup.decode_workers is None:
        return replace(work, setup=replace(setup, decode_workers=1))
    return work


def _go_to(folder: str) -> None:
    """To the folder from which paths are seen, where this machine has it."""
    with suppress(OSError):
        os.chdir(folder)
