"""Many small images of which some are broken, a network that scores nothing sensible, and runs of
the command over them.
"""

import io
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.app.miniatures import generated_image_model

BROKEN_EVERY = 100


def noise_model(folder: Path) -> Path:
    """A checkpoint with random weights."""
    return generated_image_model(folder / "noise")


def image_bytes(number: int) -> bytes:
    """A picture of 32 x 32 that no other number has; every hundredth is cut off."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    data = buffer.getvalue()
    return data[:60] if number % BROKEN_EVERY == BROKEN_EVERY - 1 else data


def manifest(file: Path, count: int, *, rows_in_group: int = 700) -> Path:
    """A Parquet manifest with the images inside, written group by group."""
    schema = pa.schema([("path", pa.string()), ("bytes", pa.binary())])
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, count, rows_in_group):
            numbers = range(start, min(start + rows_in_group, count))
            rows = [{"path": f"{n:06d}.png", "bytes": image_bytes(n)} for n in numbers]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return file


def command(inputs: Sequence[object], out: object, checkpoint: Path, *options: object) -> list[str]:
    """The command line of a run by parts, for a process of its own."""
    fixed = ("--checkpoint", checkpoint, "--device", "cpu", "--dtype", "float32", "--quiet")
    own = ("--decode-workers", 0, "--heads", "quality")
    words = ("score", *inputs, "-o", out, *fixed, *own, *options)
    return [sys.executable, "-m", "app.cli.main", *map(str, words)]


def run(words: Sequence[str], timeout: float = 240) -> str:
    """Runs it to its end and returns what it says; it must end well."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """All rows of all parts by path; each path stands in one row."""
    found = [
        row
        for part in sorted(out.glob("part-*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    counts = Counter(row["path"] for row in found)
    assert [path for path, count in counts.items() if count != 1] == []
    return {row["path"]: row for row in found}
