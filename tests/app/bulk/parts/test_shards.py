"""Array jobs that are killed and go on, compared with a run in one piece."""

from pathlib import Path

import pytest

from tests.app.bulk.parts.many import (
    LARGE,
    Log,
    Noise,
    NoiseSetup,
    ended,
    in_one_piece,
    manifest,
    rows,
    run,
    started,
    until,
)

KILLS = 3


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=LARGE)])
def test_killed_shards_leave_one_row_for_each_image_as_a_run_in_one_piece_does(
    count: int, tmp_path: Path
) -> None:
    images, unit, whole = in_one_piece(tmp_path, count)
    out, log = tmp_path / "out", Log(tmp_path)
    for kills in range(1, KILLS + 1):
        with log.held(2):
            doomed = started(images, out, unit, "0/2", log)
            until(lambda: len(log.begun()) == 3 * kills, doomed)  # noqa: B023 - called in this loop
            doomed.kill()
            ended(doomed)
    shards = [started(images, out, unit, f"{index}/2", log) for index in range(2)]
    assert [ended(shard)[0] for shard in shards] == [0, 0]
    found = rows(out)
    assert len(found) == count
    assert sum(row["code"] is not None for row in found.values()) == count // 100
    assert found == rows(whole)
    assert log.again() <= KILLS


def test_two_jobs_at_once_over_the_same_units_give_the_same_parts(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 600)
    assert run([images], tmp_path / "alone", 100) == 0
    log = Log(tmp_path)
    with log.held(0):  # both are in the first unit, whichever comes first
        jobs = [started(images, tmp_path / "out", 100, "0/1", log) for _ in range(2)]
        until(lambda: len(log.begun()) == 2, jobs[0])
    assert [ended(job)[0] for job in jobs] == [0, 0]
    alone, out = (
        {part.name: part.read_bytes() for part in (tmp_path / name).glob("part-*")}
        for name in ("alone", "out")
    )
    assert len(alone) == 6
    assert out == alone


def test_a_run_that_has_all_its_parts_loads_no_model(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 50)
    assert run([images], tmp_path / "out", 20) == 0
    assert run([images], tmp_path / "out", 20, setups=[Unloadable()]) == 0


class Unloadable(NoiseSetup):
    """A model whose facts are known and which can't be loaded."""

    def connect(self) -> Noise:
        raise AssertionError("nothing is to be done")
