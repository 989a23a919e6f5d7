"""When those who are refused shall come again: not all at the same moment."""

import itertools

import pytest

from app.batching.errors import Draining, InvalidImage, Overloaded
from app.http.problems import answer
from app.http.schemas import Problem


@pytest.mark.parametrize("seconds", [1, 3, 10, 60])
def test_it_is_never_earlier_than_the_rate_tells_and_at_most_a_quarter_later(seconds: int) -> None:
    chances = itertools.product(range(0, 100, 10), repeat=2)
    refusal = Overloaded(retry_after=seconds)
    waits = {refusal.come_back_in(iter((a / 100, b / 100)).__next__) for a, b in chances}
    assert min(waits) == seconds
    assert max(waits) <= seconds * 1.25 + 1
    assert len(waits) > 1


def test_those_who_were_refused_together_come_back_at_unlike_times() -> None:
    refusal = Overloaded(retry_after=40.0)
    waits = {answer(refusal).headers["retry-after"] for _ in range(200)}
    assert len(waits) > 3
    assert {int(wait) for wait in waits} <= set(range(40, 52))


def test_a_short_wait_is_mostly_left_as_it_is() -> None:
    chances = itertools.product((0.1, 0.5, 0.9), repeat=2)
    waits = [Overloaded().come_back_in(iter(pair).__next__) for pair in chances]
    assert waits.count(1) > len(waits) / 2
    assert max(waits) == 2


def test_an_item_of_a_batch_call_has_it_only_where_it_is_to_come_again() -> None:
    later = Problem.of(Draining(retry_after=8.0), "a.png").model_dump(exclude_unset=True)
    assert 8 <= later["retry_after"] <= 11
    never = Problem.of(InvalidImage("Broken."), "a.png").model_dump(exclude_unset=True)
    assert "retry_after" not in never


def test_a_crowd_is_spread_over_the_seconds_that_it_takes() -> None:
    refusal = Overloaded(retry_after=2.0, crowd=8.0)
    chances = itertools.product(range(0, 100, 5), repeat=2)
    waits = [refusal.come_back_in(iter((a / 100, b / 100)).__next__) for a, b in chances]
    assert (min(waits), max(waits)) == (2, 11)
    third = len(waits) / 3
    assert sum(wait < 5 for wait in waits) < 1.2 * third
    assert sum(wait >= 8 for wait in waits) < 1.2 * third
