"""How a CPU's cores are best shared: that it is measured, by whole cores."""

from collections.abc import Iterator

import pytest
import torch

from model.core_share import CoreTimes, measuring, workers_of
from model.scorer import Scorer


def measure(scorer: Scorer, most: int, enough: float = 1.0) -> tuple[CoreTimes, int]:
    """Measures it, and says in how many parts; between them torch is as it was."""
    before, parts, part = torch.get_num_threads(), 1, measuring(scorer, most, enough)
    while True:
        try:
            next(part)
        except StopIteration as end:
            return end.value, parts
        parts += 1
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("cores", "most", "workers"),
    [
        *((1, 4, 1), (2, 1, 1), (2, 0, 1), (2, 2, 2), (4, 3, 2), (8, 64, 8)),
        *((12, 64, 6), (64, 64, 8), (9, 64, 4), (11, 64, 5), (20, 64, 6)),
    ],
)
def test_each_worker_has_as_many_whole_cores_and_fewer_are_left_over(
    cores: int, most: int, workers: int
) -> None:
    assert workers_of(cores, most) == workers
    each = cores // workers
    assert cores - workers * each < max(2, each)


@pytest.mark.parametrize(("threads", "most"), [(1, 4), (2, 1)])
def test_who_has_one_core_or_may_have_one_worker_measures_nothing(
    scorer: Scorer, threads: int, most: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert measure(scorer, most) == (CoreTimes(threads, 1, 1.0, 1.0), 1)
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def _has_memory(monkeypatch: pytest.MonkeyPatch, processes: float) -> None:
    """As much as so many processes like this one have for themselves."""
    monkeypatch.setattr("model.core_share.own_memory", lambda: 200 * 2**20)
    monkeypatch.setattr("model.core_share.usable_memory", lambda: int(processes * 200 * 2**20))


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("times", "alone", "shared"),  # by turns: shared, alone
    [
        ([2.0, 1.5, 2.0, 1.6], 1.5, 2.0),
        ([2.0, 1.0, 1.9, 0.9], 0.9, 1.9),  # .95, which is enough
        ([9.0, 1.6, 5.0, 1.4, 2.0, 1.5], 1.4, 2.0),  # the machine did something else at first
        ([2.0, 0.6, 2.1, 0.5, 2.2, 0.5, 2.0, 0.7, 1.9, 0.5, 2.0, 0.6], 0.5, 1.9),
    ],
)
def test_before_one_is_preferred_both_are_measured_again(
    scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
    times: list[float],
    alone: float,
    shared: float,
) -> None:
    _has_memory(monkeypatch, processes=6)
    clock = iter(times)
    monkeypatch.setattr("model.core_share._seconds", lambda _: next(clock))
    parts = 1 + len(times) // 2
    assert measure(scorer, 2, enough=0.9) == (CoreTimes(4, 2, alone, shared), parts)
    assert not list(clock)


@pytest.mark.usefixtures("four_threads")
def test_both_ways_are_measured_and_torch_is_left_as_it_was(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _has_memory(monkeypatch, processes=6)
    found, _ = measure(scorer, 2)
    assert torch.get_num_threads() == 4
    assert (found.cores, found.workers) == (4, 2)
    assert min(found.alone, found.shared) > 0


@pytest.mark.usefixtures("four_threads")
def test_workers_fit_into_a_third_of_the_memory(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _has_memory(monkeypatch, processes=5.9)
    assert measure(scorer, 4) == (CoreTimes(4, 1, 1.0, 1.0), 1)
