"""The controller under recorded and adversarial arrivals: what is admitted is answered, soon, and
the device does not idle meanwhile.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.overload.machine import Machine
from benchmarks.overload.measure import capacity
from benchmarks.overload.service import OURS, Request, poisson
from tests.app.batching.played import (
    CALM,
    IMAGE,
    SECONDS,
    START,
    assert_promises,
    came,
    figures_of,
    played,
)

# Images in each tenth of a second, in base 36: many at once, and then few for a while.
RECORDED = (
    "11221113120111011210100002c8a84cdab3900201021015cbb97200111228ba012402a6e6j60001"
    "0104001112010032001102101000132110113011001002101121230120130087acbaa92b8a787d2b"
    "b510300113032322102100200201220001232b01231020001012001130010101011001311f9aac88"
    "580230100003002181110222111001009ad6d99989a979e9a6d801001a798cb21202300101011022"
    "0200010100001103010102112011012121131000611110230102013268d678cd7d7cc98381588fd8"
)


@pytest.fixture(scope="module")
def most() -> float:
    """The capacity: images per second of a closed loop in calm weather."""
    return capacity(OURS, CALM, IMAGE, SECONDS)


@pytest.mark.parametrize("load", [3, 10])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_many_times_the_capacity_nine_tenths_of_it_are_served_soon(
    most: float, load: int, seed: int
) -> None:
    answers = played(poisson(IMAGE, load * most, SECONDS, seed))
    assert_promises(answers)
    assert figures_of(answers).goodput >= 0.9 * most


def test_below_the_capacity_nobody_is_refused(most: float) -> None:
    answers = played(poisson(IMAGE, 0.7 * most, SECONDS))
    assert all(answer.served for answer in answers)


def test_recorded_bursts_are_served_as_if_they_came_evenly(most: float) -> None:
    counts = [int(digit, 36) for digit in "".join(RECORDED)]
    requests = [
        replace(IMAGE, at=0.1 * tenth + 0.1 * number / count, upload=0.03)
        for tenth, count in enumerate(counts)
        for number in range(count)
    ]
    assert len(requests) / SECONDS > 1.5 * most
    answers = played(requests)
    assert_promises(answers)
    assert figures_of(answers).goodput >= 0.9 * most


def test_hundreds_at_once_are_served_as_many_as_can_be_soon(most: float) -> None:
    bursts = [
        replace(IMAGE, at=10.0 * burst + 1e-3 * number, upload=0.05)
        for burst in range(4)
        for number in range(400)
    ]
    answers = played(bursts)
    assert_promises(answers)
    served = sum(answer.served for answer in answers)
    assert served >= 4 * 0.2 * IMAGE.patience * most  # of each burst, two seconds' worth at least


@pytest.mark.parametrize("patience", [1.0, 2.0])
def test_a_flood_of_short_deadlines_leaves_no_long_one_late(most: float, patience: float) -> None:
    hasty = replace(IMAGE, patience=patience)
    answers = played(
        [*poisson(hasty, 6 * most, SECONDS, 1), *poisson(IMAGE, 0.6 * most, SECONDS, 2)]
    )
    # A batch of a quarter second, and the one that is at the device, are most of a second.
    assert_promises(answers, 0.5 if patience > 1 else 0.9)
    assert figures_of(answers).goodput >= 0.85 * most
    long = [answer for answer in answers if answer.request.patience == IMAGE.patience]
    assert sum(answer.served for answer in long) >= 0.8 * len(long)


def test_deadlines_of_two_batches_are_mostly_kept_where_they_are_admitted(most: float) -> None:
    hasty = replace(IMAGE, patience=0.5)
    answers = played(
        [*poisson(hasty, 6 * most, SECONDS, 1), *poisson(IMAGE, 0.6 * most, SECONDS, 2)]
    )
    assert figures_of(a for a in answers if a.request.patience == 0.5).late <= 0.1
    assert not any(a.late for a in answers if a.request.patience == IMAGE.patience)


def test_tiny_and_huge_images_by_turns_keep_the_device_busy(most: float) -> None:
    tiny = replace(IMAGE, rows=1, decoding=0.002)
    huge = replace(IMAGE, rows=65, decoding=0.1)
    requests = [
        replace(huge if number % 2 else tiny, at=request.at)
        for number, request in enumerate(poisson(IMAGE, 4 * most, SECONDS))
    ]
    answers = played(requests)
    assert_promises(answers)
    for kind in (tiny, huge):
        assert any(a.served and a.request.rows == kind.rows for a in came(answers, 20, SECONDS))
    rows = sum(a.request.rows for a in answers if a.served and a.at <= START + SECONDS)
    assert rows / SECONDS >= 0.85 * most * IMAGE.rows


def test_a_model_whose_rate_nobody_knows_is_learned_by_its_first_batch(most: float) -> None:
    answers = played(poisson(IMAGE, 4 * most, SECONDS), warmed=False)
    assert_promises(answers)
    assert figures_of(answers).goodput >= 0.9 * most


def test_an_unknown_model_ten_times_as_slow_does_harm_for_one_deadline_only(most: float) -> None:
    slow = replace(IMAGE, model="slow", at=5.0)
    machine = Machine(per_row={"": 0.005, "slow": 0.05})
    answers = played(
        [*poisson(IMAGE, most, SECONDS, 1), *poisson(slow, most, SECONDS - 5, 2)], machine
    )
    # Before its first batch is done nobody knows better: what came until then can be late.
    first = [a for a in came(answers, 20.0, SECONDS) if not a.refused]
    assert first
    assert figures_of(first).late <= 0.01


def test_beside_a_neighbour_who_comes_and_goes_nothing_is_late(most: float) -> None:
    def pace(now: float) -> float:
        return 2.5 if now % 20 < 6 else 1.0

    answers = played(poisson(IMAGE, 3 * most, SECONDS), replace(CALM, pace=pace))
    # Of what waits when it comes, all takes 2.5 times as long: no estimate can know before.
    assert_promises(answers, 0.7)
    slowed = 14 / 20 + 6 / 20 / 2.5
    assert figures_of(answers).goodput >= 0.9 * slowed * most


def test_a_device_that_is_four_times_as_slow_at_once_is_believed_after_one_deadline(
    most: float,
) -> None:
    def pace(now: float) -> float:
        return 4.0 if 10 <= now - START < 30 else 1.0

    answers = played(poisson(IMAGE, 3 * most, SECONDS), replace(CALM, pace=pace))
    assert_promises(came(answers, 0, 6))
    # What waits when it begins is two to three seconds of work, and becomes ten: some of it is
    # late, whatever is done, and so is some of what came before that showed.
    struck = came(answers, 6, 20)
    assert sum(answer.late for answer in struck) <= 3 * most
    slow = came(answers, 20, 30)
    assert_promises(slow)
    assert figures_of(answers, 8, 22).goodput >= 0.7 * most / 4
    recovered = came(answers, 30, SECONDS)
    assert_promises(recovered)
    assert figures_of(answers, 7, 33).goodput >= 0.9 * most


def test_prompts_that_cost_ten_times_as_much_at_once_are_reckoned_with_soon(most: float) -> None:
    def per_byte(now: float) -> float:
        return (0.05 if now - START > 15 else 0.005) / 40

    image = replace(IMAGE, prompt=40)
    machine = replace(CALM, per_prompt_byte=per_byte)
    answers = played(poisson(image, 3 * most, SECONDS), machine)
    assert figures_of(answers).late <= 0.01
    assert_promises(came(answers, 20, SECONDS))
    assert figures_of(answers, 20, 20).goodput >= 0.9 / (0.0575 + 0.05)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    bursts=st.lists(
        st.tuples(
            st.floats(0, 10),
            st.integers(1, 60),
            st.integers(1, 65),
            st.floats(3, 20),
            st.floats(0, 1),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_comes_with_three_seconds_or_more_is_answered_in_time_if_admitted(
    bursts: list[tuple[float, int, int, float, float]],
) -> None:
    answers = played(
        Request(at, patience, rows, upload=upload)
        for at, count, rows, patience, upload in bursts
        for _ in range(count)
    )
    assert not any(answer.late for answer in answers)
    assert any(answer.served for answer in answers)
