from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.engine.history import Curves, write_csv


def test_each_epoch_is_a_row_with_gaps_where_it_lacks_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    write_csv(path, [{"loss": 0.5}, {"loss": 0.25, "srcc": -0.125}, {"loss": 0.0, "srcc": 0.75}])
    assert path.read_text() == (
        "epoch,loss,srcc\n1,0.500000,\n2,0.250000,-0.125000\n3,0.000000,0.750000\n"
    )


def curve(folder: Path, name: str) -> dict[int, Any]:
    """A curve as TensorBoard shows it."""
    events = EventAccumulator(str(folder))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars(name)]
    assert len(dict(points)) == len(points)
    return {step: pytest.approx(value) for step, value in points}


def write(folder: Path, figures: dict[int, dict[str, float]]) -> None:
    """The epochs of one run."""
    with Curves(folder) as curves:
        for epoch, measured in figures.items():
            curves.add(epoch, measured)


def test_tensorboard_reads_every_epoch(tmp_path: Path) -> None:
    expected = {epoch: 1 / epoch for epoch in range(1, 13)}
    odd = {"srcc": 0.25}
    write(tmp_path, {e: {"loss": v} | (odd if e % 2 else {}) for e, v in expected.items()})
    assert curve(tmp_path, "loss") == expected
    assert curve(tmp_path, "srcc") == dict.fromkeys(range(1, 13, 2), 0.25)


def test_an_epoch_is_there_before_the_run_ends(tmp_path: Path) -> None:
    with Curves(tmp_path) as curves:
        for epoch in (1, 2):
            curves.add(epoch, {"loss": 0.5})
            assert curve(tmp_path, "loss") == dict.fromkeys(range(1, epoch + 1), 0.5)


def test_a_resumed_epoch_replaces_what_a_killed_run_wrote_of_it_and_later_ones(
    tmp_path: Path,
) -> None:
    write(tmp_path, {epoch: {"loss": float(epoch)} for epoch in (1, 2, 3)})
    write(tmp_path, {2: {"loss": 20.0}})
    assert curve(tmp_path, "loss") == {1: 1.0, 2: 20.0}
    write(tmp_path, {3: {"loss": 30.0}})
    assert curve(tmp_path, "loss") == {1: 1.0, 2: 20.0, 3: 30.0}


def test_a_run_without_an_epoch_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "curves", {})
    assert not (tmp_path / "curves").exists()
