"""What the process that hands out the units holds, few images or many."""

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.app.bulk.parts.many import LARGE, RAY, Log, ended, manifest, started
from tests.app.bulk.parts.test_ray import NEEDS_RAY

pytestmark = pytest.mark.timeout(600)
PSS = Path("/proc/self/smaps_rollup")


def peak(tmp_path: Path, count: int, unit: int, how: str) -> int:
    """The most memory that a run has held, in kB."""
    images = manifest(tmp_path / f"{count}.parquet", count)
    job = started(images, tmp_path / f"out-{count}", unit, how, Log(tmp_path))
    most = 0
    while job.poll() is None:
        with suppress(OSError):  # it has ended
            lines = Path(f"/proc/{job.pid}/smaps_rollup").read_text().splitlines()
            held = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
            most = max(most, *held, 0)
        with suppress(subprocess.TimeoutExpired):
            job.wait(0.05)
    code, text = ended(job)
    assert code == 0, text
    assert len(list((tmp_path / f"out-{count}").glob("part-*"))) == count // unit
    return most


@pytest.mark.skipif(not PSS.exists(), reason="needs Linux' PSS")
@pytest.mark.parametrize("how", ["0/1", pytest.param(RAY, marks=NEEDS_RAY)])
@pytest.mark.parametrize(
    ("few", "many", "unit"), [(500, 5_000, 50), pytest.param(10_000, 100_000, 1_000, marks=LARGE)]
)
def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, few: int, many: int, unit: int, how: str
) -> None:
    less, more = (peak(tmp_path, count, unit, how) for count in (few, many))
    assert more < 1.2 * less
