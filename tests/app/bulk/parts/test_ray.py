"""The same units on a local Ray cluster; ``Score`` in a pipeline of somebody else."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.app.bulk.parts.many import image_bytes, manifest, rows, run, started

NO_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'agiqa[ray]'"
)


@NO_RAY
def test_a_ray_driver_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 2_000)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run([images], whole, 100) == 0
    killed = started(images, out, 100, "ray")
    while not list(out.glob("part-*")) and killed.poll() is None:
        pass
    killed.kill()
    killed.communicate()
    again = started(images, out, 100, "ray")
    again.communicate()
    assert again.returncode == 0
    assert rows(out) == rows(whole)


def test_score_gives_a_row_for_each_of_a_batch_and_keeps_other_columns() -> None:
    from app.bulk.ray import Score

    score = Score(heads=("quality",), device="cpu", dtype="float32", decode_workers=0)
    data = np.array([image_bytes(0), image_bytes(99)], dtype=object)
    table = score({"bytes": data, "key": np.array(["a", "b"], dtype=object)}).to_pylist()
    assert [row["key"] for row in table] == ["a", "b"]
    assert [row["code"] for row in table] == [None, "unreadable_image"]
    assert table[0]["quality"] is not None
