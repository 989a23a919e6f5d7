"""Which units a job of an array does."""

from pathlib import Path

import pytest

from app.bulk.errors import CannotScore
from app.bulk.parts.units import Shard
from tests.app.bulk.scored import agiqa, empty_files


def slurm(task: int, **others: int) -> dict[str, str]:
    names = {"id": task, **others}
    return {f"SLURM_ARRAY_TASK_{name.upper()}": str(value) for name, value in names.items()}


def test_without_an_array_all_units_are_done() -> None:
    assert Shard.of_environment({}) == Shard(0, 1)


def test_an_indexed_job_of_kubernetes_names_its_share() -> None:
    environment = {"JOB_COMPLETION_INDEX": "3", "JOB_COMPLETIONS": "8"}
    assert Shard.of_environment(environment) == Shard(3, 8)


def test_an_indexed_job_without_a_count_is_refused() -> None:
    with pytest.raises(CannotScore, match="JOB_COMPLETIONS"):
        Shard.of_environment({"JOB_COMPLETION_INDEX": "0"})


@pytest.mark.parametrize(
    ("tasks", "step"), [(range(4), 1), (range(1, 5), 1), (range(10, 30, 5), 5)], ids=str
)
def test_the_tasks_of_a_slurm_array_do_each_share_once(tasks: range, step: int) -> None:
    counts = {"count": len(tasks), "min": tasks[0], "step": step}
    shards = [Shard.of_environment(slurm(task, **counts)) for task in tasks]
    assert shards == [Shard(index, 4) for index in range(4)]


@pytest.mark.parametrize(("task", "step"), [(7, 1), (4, 2)])
def test_an_array_with_gaps_is_refused_for_some_share_would_be_nobodys(
    task: int, step: int
) -> None:
    with pytest.raises(CannotScore, match="array with gaps"):
        Shard.of_environment(slurm(task, count=3, min=1, step=step))


@pytest.mark.parametrize("text", ["8/8", "0/0", "1", "a/b", "-1/2", "1/2/3"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CannotScore, match="shard"):
        Shard.parse(text)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_task_of_an_array_says_which_share_it_does(
    quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = empty_files(tmp_path, "a.png")
    for name, value in slurm(1, count=2, min=0).items():
        monkeypatch.setenv(name, value)
    # The only unit is task 0's, so nobody loads a model.
    options = ["--quiet"] if quiet else []
    result = agiqa("score", *images, "-o", tmp_path / "out", *options)
    assert result.exit_code == 0
    assert ("this is task 1/2 of an array job" in result.stderr) is not quiet


def test_a_share_that_is_named_goes_before_that_of_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = empty_files(tmp_path, "a.png")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")  # alone it would be refused
    result = agiqa("score", *images, "-o", tmp_path / "out", "--shard", "2/3")
    assert result.exit_code == 0
    assert "shard 2/3" in result.stderr
    assert "array job" not in result.stderr
