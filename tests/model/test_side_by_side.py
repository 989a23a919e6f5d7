"""Calls of the network side by side, each with its part of a CPU's cores."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from model.core_share import SideBySide, calls_at_once


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("device", "dtype", "calls"),
    [("cpu", torch.float32, 4), ("cpu", torch.bfloat16, 1), ("cuda", torch.float32, 1)],
)
def test_there_is_a_call_for_each_core_only_where_scores_stay_the_same(
    device: str, dtype: torch.dtype, calls: int
) -> None:
    assert calls_at_once(torch.device(device), dtype) == calls


@pytest.mark.usefixtures("four_threads")
def test_each_thread_has_its_part_and_the_caller_keeps_all() -> None:
    both_there = threading.Barrier(2)

    def threads() -> int:
        both_there.wait(30)  # so that each of them is asked
        return torch.get_num_threads()

    with closing(SideBySide(2)) as calls:
        begun = [calls.submit(threads) for _ in range(2)]
        assert [each.result(30) for each in begun] == [2, 2]
        assert calls.ahead == 2
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_one_call_alone_is_computed_here_with_all_cores() -> None:
    with closing(SideBySide(1)) as calls:
        place = calls.submit(lambda: (threading.current_thread(), torch.get_num_threads()))
        assert place.result(0) == (threading.current_thread(), 4)
        assert calls.ahead == 0


def test_closing_leaves_no_thread_and_begins_nothing_more() -> None:
    begun, go_on = threading.Event(), threading.Event()
    before = set(threading.enumerate())
    calls = SideBySide(2)

    def work() -> None:
        begun.set()
        go_on.wait(30)

    running = [calls.submit(work) for _ in range(2)]
    never = calls.submit(work)
    assert begun.wait(30)
    closer = threading.Thread(target=calls.close)
    closer.start()
    go_on.set()
    closer.join(30)
    assert all(each.done() for each in running)
    assert never.cancelled() or never.done()
    assert set(threading.enumerate()) <= before
