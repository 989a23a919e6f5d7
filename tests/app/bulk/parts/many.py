"""Many small images of which some are broken, a network that returns noise, and runs over them in
processes of their own: ``python -m tests.app.bulk.parts.many INPUT OUT IMAGES [I/N | ray]``.
"""

import hashlib
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from app.bulk.parts.run import PartsJob, run_parts
from app.bulk.parts.samples import Prompts
from app.bulk.parts.units import Shard
from app.bulk.rows import Item, ModelFacts, Row, failed, scored
from tests.app.bulk.scored import MODEL

BROKEN_EVERY = 100
_TELLS_EVERY = 50


class Noise:
    """Decodes each image, and scores it by a digest of its bytes."""

    model = MODEL

    def __init__(self, *, tells: bool = False) -> None:
        self._tells = tells
        self._done = 0

    def score(self, items: Sequence[Item]) -> Generator[Row, None, None]:
        for item in items:
            yield self._row(item)
            self._done += 1
            if self._tells and self._done % _TELLS_EVERY == 0:
                print(self._done, flush=True)  # noqa: T201 - for who kills this process

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

    tells: bool = False

    def facts(self) -> ModelFacts:
        return MODEL

    def connect(self) -> Noise:
        return Noise(tells=self.tells)


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
    given = {"setups": [NoiseSetup()], "unit_images": images, "quiet": True} | options
    return run_parts(PartsJob([str(i) for i in inputs], str(out), **given))


def started(inputs: object, out: object, images: int, how: str) -> "subprocess.Popen[str]":
    """The same in a process of its own, which says on a line how far it is."""
    words = [str(inputs), str(out), str(images), how]
    module = "tests.app.bulk.parts.many"
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True
    )


def rows(out: Path) -> dict[str, Row]:
    """All rows of all parts by path; each path stands in one row."""
    parts = sorted(out.glob("part-*.parquet"))
    found: list[Row] = [row for part in parts for row in pq.read_table(part).to_pylist()]
    counts = Counter(row["path"] for row in found)
    assert [path for path, count in counts.items() if count != 1] == []
    return {row["path"]: row for row in found}


def main(inputs: str, out: str, images: str, how: str) -> int:
    ray = "" if how == "ray" else None
    shard = Shard() if how == "ray" else Shard.parse(how)
    return run(
        [inputs],
        out,
        int(images),
        setups=[NoiseSetup(tells=True)],
        shard=shard,
        ray=ray,
        prompts=Prompts(),
    )


if __name__ == "__main__":
    # By its own name, not __main__: what goes to other processes must be found there.
    from tests.app.bulk.parts.many import main as run_it

    sys.exit(run_it(*sys.argv[1:]))
