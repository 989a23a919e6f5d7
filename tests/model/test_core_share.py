"""How a CPU's cores are best shared: what is decided from seconds, and that they are measured."""

import pytest
import torch

from model.core_share import CoreShare, decided, measure
from model.scorer import Scorer


@pytest.mark.parametrize(
    ("alone", "shared", "share"),
    [
        (0.6, 1.0, CoreShare(2, 1, speedup=1 / 0.6, gain=1.2)),  # threads wait for each other
        (0.5, 1.0, CoreShare(2, 1, speedup=2.0, gain=1.0)),
        (0.4, 1.0, CoreShare(1, 2, speedup=1.0, gain=0.8)),  # caches are too small for two
        (1.2, 1.0, CoreShare(2, 1, speedup=1.0, gain=2.4)),  # threads are of no use at all
    ],
)
def test_several_workers_are_chosen_where_they_are_faster_together(
    alone: float, shared: float, share: CoreShare
) -> None:
    found = decided(2, 1, alone, shared)
    assert (found.workers, found.threads) == (share.workers, share.threads)
    assert (found.speedup, found.gain) == pytest.approx((share.speedup, share.gain))


@pytest.mark.parametrize(("threads", "most"), [(1, 4), (2, 1)])
def test_who_has_one_core_or_may_have_one_worker_measures_nothing(
    scorer: Scorer, threads: int, most: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert measure(scorer, most) == CoreShare(threads=threads)
    finally:
        torch.set_num_threads(before)


def test_all_cores_are_given_out_and_torch_is_left_as_it_was(scorer: Scorer) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        share = measure(scorer, 2)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert (share.workers, share.threads) in {(1, 4), (2, 2)}
    assert share.gain > 0
