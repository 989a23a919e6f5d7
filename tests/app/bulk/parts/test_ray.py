"""The same units on a local Ray cluster; ``Score`` in a pipeline of somebody else."""

import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.app.bulk.parts.many import (
    LARGE,
    RAY,
    Log,
    ended,
    image_bytes,
    in_one_piece,
    rows,
    started,
    until,
    until_gone,
)

pytestmark = pytest.mark.timeout(600)  # a cluster begins slowly on a machine with other tests
NEEDS_RAY = [
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]


@pytest.mark.parametrize(
    "count",
    [pytest.param(5_000, marks=NEEDS_RAY), pytest.param(100_000, marks=[*NEEDS_RAY, *LARGE])],
)
def test_an_actor_and_then_the_driver_are_killed_and_each_image_has_one_row(
    count: int, tmp_path: Path
) -> None:
    images, unit, whole = in_one_piece(tmp_path, count)
    out, log = tmp_path / "out", Log(tmp_path)
    with log.held(4):
        driver = started(images, out, unit, RAY, log)
        until(lambda: len(log.begun()) == 6, driver)
        actors = {pid for pid, _ in log.begun()}
        assert len(actors) == 2
        os.kill(min(actors), signal.SIGKILL)
        until(lambda: len(log.begun()) > 6, driver)  # it has another in its place
        driver.kill()
        ended(driver)
        for pid, _ in log.begun():
            until_gone(pid)
    code, text = ended(started(images, out, unit, RAY, log))
    assert code == 0, text
    found = rows(out)
    assert len(found) == count
    assert found == rows(whole)
    assert log.again() <= 3  # of the actor that was killed first, and of two when the driver was


def test_score_gives_a_row_for_each_of_a_batch_and_keeps_other_columns() -> None:
    from app.bulk.ray import Score

    score = Score(heads=("quality",), device="cpu", dtype="float32", decode_workers=0)
    data = np.array([image_bytes(0), image_bytes(99)], dtype=object)
    table = score({"bytes": data, "key": np.array(["a", "b"], dtype=object)}).to_pylist()
    assert [row["key"] for row in table] == ["a", "b"]
    assert [row["code"] for row in table] == [None, "unreadable_image"]
    assert table[0]["quality"] is not None
