import pytest

from app.batching.rate import Rate, Rates


def measured(*batches: tuple[int, float]) -> Rate:
    rate = Rate()
    for rows, seconds in batches:
        rate.observe(rows, seconds)
    return rate


def test_an_unmeasured_rate_promises_nothing() -> None:
    rate = Rate()
    assert not rate.known
    assert rate.seconds(100) == 0.0
    assert rate.rows_within(0.25) == 1


def test_overhead_and_slope_are_found_from_batches_of_different_size() -> None:
    rate = measured(*[(n, 0.01 + 0.002 * n) for n in (1, 10, 40, 100)])
    assert rate.seconds(50) == pytest.approx(0.11, rel=0.02)
    assert rate.rows_within(0.11) == pytest.approx(50, abs=1)


def test_batches_of_one_size_give_a_line_through_the_origin() -> None:
    rate = measured(*[(20, 0.1)] * 5)
    assert rate.seconds(40) == pytest.approx(0.2)
    assert rate.rows_within(0.25) == 50


def test_a_busy_neighbour_is_noticed_at_once_and_leaves_the_line_as_it_is() -> None:
    sizes = (9, 18, 36, 72)
    rate = measured(*[(n, 0.01 + 0.002 * n) for n in sizes * 5])
    worthwhile = rate.worthwhile_rows()
    for n in sizes * 2:
        rate.observe(n, 4 * (0.01 + 0.002 * n))
    assert rate.pace == pytest.approx(4.0, rel=0.2)
    assert rate.seconds(36) == pytest.approx(4 * 0.082, rel=0.15)
    assert rate.worthwhile_rows() == pytest.approx(worthwhile, rel=0.3)
    for n in sizes * 2:
        rate.observe(n, 0.01 + 0.002 * n)
    assert rate.seconds(36) == pytest.approx(0.082, rel=0.2)


def test_one_batch_that_stood_still_changes_little() -> None:
    rate = measured(*[(n, 0.01 * n) for n in (10, 20, 40) * 5])
    rate.observe(20, 60.0)
    assert rate.seconds(20) < 0.5


def test_rows_are_worthwhile_up_to_four_times_the_overhead() -> None:
    rate = measured(*[(n, 0.1 + 0.01 * n) for n in (10, 20, 40, 80) * 5])
    assert rate.worthwhile_rows() == pytest.approx(40, abs=2)
    assert measured(*[(n, 0.01 * n) for n in (10, 20, 40)]).worthwhile_rows() == 1
    assert Rate().worthwhile_rows() == 1


def test_a_slower_device_is_noticed_within_some_batches() -> None:
    rate = measured(*[(10, 0.1)] * 20, *[(10, 0.2)] * 60)
    assert rate.seconds(10) == pytest.approx(0.2, rel=0.1)


def test_at_least_one_row_always_fits() -> None:
    assert measured((1, 5.0)).rows_within(0.25) == 1


def test_each_model_has_a_rate_of_its_own() -> None:
    rates = Rates()
    rates.of("slow").observe(10, 1.0)
    assert rates.of("slow").seconds(10) == pytest.approx(1.0)
    assert not rates.of("fast").known
    rates.of("other").observe(10, 0.1)
    rates.slow_down(1.5)
    assert rates.of("slow").seconds(10) == pytest.approx(1.5)
    assert rates.of("other").seconds(10) == pytest.approx(0.15)
    rates.of("slow").observe(10, 1.5)
    assert rates.of("slow").seconds(10) == pytest.approx(1.5)


def test_rows_among_others_take_their_share_of_the_overhead() -> None:
    rate = Rate()
    assert rate.share(10) == 0.0
    for rows in (10, 20, 30) * 20:
        rate.observe(rows, 1.0 + 0.1 * rows)
    assert rate.seconds(10) == pytest.approx(2.0, rel=0.02)
    assert rate.share(10) == pytest.approx(1.5, abs=0.05)  # a batch of 20 takes 3
