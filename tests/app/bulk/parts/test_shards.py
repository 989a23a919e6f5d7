"""Array jobs that are killed and go on, compared with a run in one piece."""

import os
from pathlib import Path

import pytest

from tests.app.bulk.parts.many import manifest, rows, run, started

KILLS = 3


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_killed_shards_leave_one_row_for_each_image_as_a_run_in_one_piece_does(
    count: int, tmp_path: Path
) -> None:
    images = manifest(tmp_path / "images.parquet", count)
    unit = count // 20
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run([images], whole, unit) == 0
    for _ in range(KILLS):
        doomed = started(images, out, unit, "0/2")
        assert doomed.stdout
        assert doomed.stdout.readline()  # it is inside a unit
        doomed.kill()
        doomed.communicate()
    shards = [started(images, out, unit, f"{index}/2") for index in range(2)]
    assert [(shard.communicate(), shard.returncode)[1] for shard in shards] == [0, 0]
    found = rows(out)
    assert len(found) == count
    assert sum(row["code"] is not None for row in found.values()) == count // 100
    assert found == rows(whole)


def test_two_jobs_at_once_over_the_same_units_give_the_same_parts(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 600)
    assert run([images], tmp_path / "alone", 100) == 0
    jobs = [started(images, tmp_path / "out", 100, "0/1") for _ in range(2)]
    assert [(job.communicate(), job.returncode)[1] for job in jobs] == [0, 0]
    alone, out = (
        {part.name: part.read_bytes() for part in (tmp_path / name).glob("part-*")}
        for name in ("alone", "out")
    )
    assert len(alone) == 6
    assert out == alone


def _peak(images: Path, out: Path, unit: int) -> int:
    """The most memory that a run has held, in kB."""
    job = started(images, out, unit, "0/1")
    assert job.stdout
    most = 0
    for _ in job.stdout:
        pss = Path(f"/proc/{job.pid}/smaps_rollup")
        try:
            lines = pss.read_text().splitlines()
        except OSError:  # it has ended
            break
        most = max(most, *(int(line.split()[1]) for line in lines if line.startswith("Pss:")))
    job.communicate()
    assert job.returncode == 0
    return most


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux' PSS")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    few, many = (
        _peak(manifest(tmp_path / f"{count}.parquet", count), tmp_path / f"out-{count}", 1_000)
        for count in (10_000, 100_000)
    )
    assert many < 1.2 * few


def test_a_run_that_has_all_its_parts_loads_no_model(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 50)
    assert run([images], tmp_path / "out", 20) == 0
    again = started(images, tmp_path / "out", 20, "0/1")
    lines, _ = again.communicate()
    assert (again.returncode, lines) == (0, "")
