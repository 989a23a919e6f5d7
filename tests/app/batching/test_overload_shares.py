"""Shares under overload: of senders, whatever they do, and of batch calls beside single images."""

from dataclasses import replace

import pytest

from app.batching.fairness import Priority, Sender
from benchmarks.overload.measure import capacity, quantile
from benchmarks.overload.service import OURS, poisson
from tests.app.batching.played import (
    CALM,
    IMAGE,
    SECONDS,
    assert_promises,
    figures_of,
    of,
    played,
)

MODEST = replace(IMAGE, sender=Sender("modest"))
BATCH = replace(IMAGE, at=2.0, rows=20, images=64, sender=Sender("batches", priority=Priority.BULK))


@pytest.fixture(scope="module")
def most() -> float:
    """The capacity: images per second of a closed loop in calm weather."""
    return capacity(OURS, CALM, IMAGE, SECONDS)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.4])
def test_the_modest_gets_what_it_asks_for_beside_the_greedy(most: float, share: float) -> None:
    greedy = replace(IMAGE, sender=Sender("greedy"))
    answers = played(
        [*poisson(MODEST, share * most, SECONDS, 1), *poisson(greedy, 9 * most, SECONDS, 2)]
    )
    assert_promises(answers)
    modest = of(answers, "modest")
    assert sum(answer.served for answer in modest) >= 0.98 * len(modest)
    assert figures_of(answers).goodput >= 0.9 * most


def test_whoever_asks_for_more_than_its_share_gets_about_that(most: float) -> None:
    greedy = replace(IMAGE, sender=Sender("greedy"))
    answers = played(
        [*poisson(MODEST, 0.6 * most, SECONDS, 1), *poisson(greedy, 3 * most, SECONDS, 2)]
    )
    assert_promises(answers)
    served = sum(answer.served for answer in of(answers, "modest")) / SECONDS
    assert 0.43 * most <= served <= 0.55 * most


def test_a_key_has_one_share_however_many_send_with_it(most: float) -> None:
    requests = [*poisson(MODEST, 0.4 * most, SECONDS, 1)]
    for number in range(50):
        shared = replace(IMAGE, sender=Sender("key"), upload=0.001 * number)
        requests += poisson(shared, 0.2 * most, SECONDS, 2 + number)
    modest = of(played(requests), "modest")
    assert sum(answer.served for answer in modest) >= 0.9 * len(modest)


def test_without_keys_each_of_many_addresses_has_an_equal_share(most: float) -> None:
    requests = [*poisson(MODEST, 0.3 * most, SECONDS, 1)]
    for number in range(50):
        kind = replace(IMAGE, sender=Sender(f"10.0.0.{number}"))
        requests += poisson(kind, 0.2 * most, SECONDS, 2 + number)
    answers = played(requests)
    # Each of them may be the modest one, and is let in a little longer than one alone.
    assert_promises(answers, 0.6)
    assert figures_of(answers).goodput >= 0.9 * most
    counts = [sum(a.served for a in of(answers, f"10.0.0.{n}")) for n in range(50)]
    assert min(counts) > 0
    assert sum(answer.served for answer in of(answers, "modest")) >= sum(counts) / 50 / 2


def test_beside_a_batch_call_no_single_image_is_refused(most: float) -> None:
    alone = played(poisson(IMAGE, 0.3 * most, SECONDS, 1))
    answers = played([*poisson(IMAGE, 0.3 * most, SECONDS, 1), BATCH])
    assert all(answer.served for answer in answers)
    singles = of(answers, IMAGE.sender.owner)
    with_it, without = (quantile([a.seconds for a in group], 0.99) for group in (singles, alone))
    assert with_it <= without + 2 * 0.25 * 1.5  # a batch's time, and that of the one handed over


def test_bulk_has_its_part_while_single_images_are_ten_times_too_many(most: float) -> None:
    answers = played([*poisson(IMAGE, 10 * most, SECONDS, 1), BATCH])
    batch, singles = of(answers, "batches"), of(answers, IMAGE.sender.owner)
    assert all(answer.served for answer in batch)
    work = BATCH.images * BATCH.rows * 0.006
    assert max(answer.seconds for answer in batch) <= 1.3 * work / 0.25
    assert_promises(singles)
    assert figures_of(singles).goodput >= 0.7 * most


def test_batch_calls_of_two_senders_are_done_side_by_side(most: float) -> None:
    other = replace(BATCH, at=2.1, images=16, sender=Sender("other", priority=Priority.BULK))
    answers = played([BATCH, other])
    assert all(answer.served for answer in answers)
    last = {name: max(a.at for a in of(answers, name)) for name in ("batches", "other")}
    assert last["other"] < last["batches"] - 2.0
