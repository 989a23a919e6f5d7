"""Many small images of which some are broken, a network that returns noise, and runs over them in
processes of their own: ``python -m tests.app.bulk.parts.many INPUT OUT IMAGES LOG HOW``.
"""

import fcntl
import hashlib
import io
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.bulk.parts.run import PartsJob, run_parts
from app.bulk.parts.units import Shard
from app.bulk.rows import Item, ModelFacts, Row, failed, scored
from tests.app.bulk.scored import MODEL

BROKEN_EVERY = 100
RAY = "ray"
# What CI has no time for.
LARGE = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif("TEST_LARGE" not in os.environ, reason="takes minutes: TEST_LARGE=1"),
]
Run = subprocess.Popen[str]


@dataclass(frozen=True, slots=True)
class Log:
    """Which process began which unit, in a folder that all share; and where they stop."""

    folder: Path

    def begun(self) -> list[tuple[int, str]]:
        """Process and first image of each unit, in order."""
        file = self.folder / "begun"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(pid), name) for pid, name in map(str.split, lines)]

    def again(self) -> int:
        """How often a unit was begun that had been begun before."""
        return sum(count - 1 for count in Counter(name for _, name in self.begun()).values())

    def begin(self, name: str) -> None:
        """Begins a unit, and stays in it while ``held``."""
        with (self.folder / "begun").open("a") as file:
            file.write(f"{os.getpid()} {name}\n")
        with suppress(FileNotFoundError), (self.folder / "held").open() as hold:
            if len(self.begun()) > int(hold.read()):
                fcntl.flock(hold, fcntl.LOCK_SH)

    @contextmanager
    def held(self, more: int) -> Iterator[None]:
        """In the block, who begins a unit after so many more stays in it."""
        file = self.folder / "held"
        with file.open("w") as hold:
            fcntl.flock(hold, fcntl.LOCK_EX)
            hold.write(str(len(self.begun()) + more))
            hold.flush()
            try:
                yield
            finally:
                file.unlink()


class Noise:
    """Decodes each image, and scores it by a digest of its bytes."""

    model = MODEL

    def __init__(self, log: Log | None) -> None:
        self._log = log

    def score(self, items: Sequence[Item]) -> Generator[Row, None, None]:
        if self._log:
            self._log.begin(items[0].name)
        for item in items:
            yield self._row(item)

    def _row(self, item: Item) -> Row:
        try:
            data = (item.source or item.path).read_bytes()
            Image.open(io.BytesIO(data)).load()
        except OSError as error:
            return failed(item, MODEL, "unreadable_image", type(error).__name__)
        value = int(hashlib.sha256(data).hexdigest()[:8], 16) / 0xFFFFFFFF
        return scored(item, MODEL, {"quality": value, "crops": 1})


@dataclass(frozen=True, slots=True)
class NoiseSetup:
    """Loads in no time, anywhere."""

    log: Log | None = None

    def facts(self) -> ModelFacts:
        return MODEL

    def connect(self) -> Noise:
        return Noise(self.log)


def image_bytes(number: int) -> bytes:
    """A picture of 32 x 32 that no other number has; every hundredth is cut off."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    data = buffer.getvalue()
    return data[:60] if number % BROKEN_EVERY == BROKEN_EVERY - 1 else data


def manifest(file: Path, count: int, rows_in_group: int = 700) -> Path:
    """A Parquet manifest with the images inside, written group by group."""
    schema = pa.schema([("path", pa.string()), ("bytes", pa.binary())])
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, count, rows_in_group):
            numbers = range(start, min(start + rows_in_group, count))
            rows = [{"path": f"{n:06d}.png", "bytes": image_bytes(n)} for n in numbers]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return file


def run(inputs: Sequence[object], out: object, images: int, **options: Any) -> int:
    """A run in this process, with units of so many images."""
    chosen: dict[str, Any] = {"setups": [NoiseSetup()], "unit_images": images, "quiet": True}
    chosen |= options
    return run_parts(PartsJob([str(i) for i in inputs], str(out), **chosen))


def in_one_piece(folder: Path, count: int) -> tuple[Path, int, Path]:
    """So many images, the size of fifty units of them, and the parts of a run that nothing ends."""
    images, unit, whole = manifest(folder / "images.parquet", count), count // 50, folder / "whole"
    assert run([images], whole, unit) == 0
    return images, unit, whole


def started(inputs: object, out: object, images: int, how: str, log: Log) -> Run:
    """The same in a process of its own: ``how`` is a shard, ``ray``, or devices (``cpu,cpu``)."""
    words = [str(inputs), str(out), str(images), str(log.folder), how]
    command = [sys.executable, "-m", "tests.app.bulk.parts.many", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def ended(job: Run) -> tuple[int, str]:
    """Its exit code, and what it wrote to standard error."""
    _, text = job.communicate()
    return job.returncode, text


def until(condition: Callable[[], object], job: Run) -> None:
    """Waits while the job goes on, which must not end before."""
    while not condition():
        with suppress(subprocess.TimeoutExpired):
            job.wait(0.05)
            raise AssertionError(f"it ended: {ended(job)}")


def until_gone(pid: int) -> None:
    """Waits for the end of a process that is no child of this one."""
    with suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        select.select([process], [], [])
        os.close(process)


def rows(out: Path) -> dict[str, Row]:
    """All rows of all parts by path; each path stands in one row."""
    parts = sorted(out.glob("part-*.parquet"))
    found: list[Row] = [row for part in parts for row in pq.read_table(part).to_pylist()]
    counts = Counter(row["path"] for row in found)
    assert [path for path, count in counts.items() if count != 1] == []
    return {row["path"]: row for row in found}


def main(inputs: str, out: str, images: str, log: str, how: str) -> int:
    options: dict[str, Any] = {"setups": [NoiseSetup(Log(Path(log)))]}
    if how == RAY:
        _begin_cluster()
        options |= {"ray": ""}
    elif "/" in how:
        options |= {"shard": Shard.parse(how)}
    else:
        options |= {"setups": options["setups"] * len(how.split(","))}
    return run([inputs], out, int(images), **options)


def _begin_cluster() -> None:
    """Of two CPUs, whatever this machine has; what others hold of its memory ends no worker."""
    import ray

    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200_000_000,
        _system_config={"memory_monitor_refresh_ms": 0},
    )


if __name__ == "__main__":
    # By its own name, not __main__: what goes to other processes must be found there.
    from tests.app.bulk.parts.many import main as run_it

    sys.exit(run_it(*sys.argv[1:]))
