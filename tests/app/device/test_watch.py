import pytest

from app.device.watch import Health, Watch, load_limit

TICK = 0.25


@pytest.fixture
def watch() -> Watch:
    """Of a worker that is up."""
    watch = Watch(load_limit=10)
    watch.loaded()
    return watch


def seconds_until(health: Health, watch: Watch, expected: float | None, beats: bool) -> float:
    """Lets time pass until the worker counts as this; in each tick it may beat."""
    for i in range(1, 10_000):
        if beats:
            watch.heard()
        if watch.tick(TICK, expected) is health:
            return i * TICK
    raise AssertionError("never")


def test_a_silent_worker_is_slow_before_two_seconds_and_hangs_before_three(watch: Watch) -> None:
    # Its last beat may have come half a second before it was stopped.
    assert seconds_until(Health.SLOW, watch, None, beats=False) <= 2
    watch.heard()
    assert seconds_until(Health.HANGS, watch, None, beats=False) <= 3
    assert "sign of life" in watch.why


def test_a_worker_that_beats_with_nothing_to_do_is_well_for_ever(watch: Watch) -> None:
    for _ in range(1000):
        watch.heard()
        assert watch.tick(TICK, None) is Health.WELL


def test_a_batch_without_progress_is_a_hang_though_it_beats(watch: Watch) -> None:
    assert seconds_until(Health.SLOW, watch, 0.1, beats=True) <= 2
    assert seconds_until(Health.HANGS, watch, 0.1, beats=True) <= 3
    assert "progress" in watch.why


@pytest.mark.parametrize("expected", [1.0, 7.0])
def test_a_batch_may_take_ten_times_as_long_as_expected(watch: Watch, expected: float) -> None:
    taken = seconds_until(Health.HANGS, watch, expected, beats=True)
    assert taken == pytest.approx(10 * expected, abs=2 * TICK)


def test_each_batch_that_comes_back_is_progress(watch: Watch) -> None:
    for _ in range(100):
        watch.heard()
        watch.progress()
        assert watch.tick(1.0, 0.1) is Health.WELL


def test_steps_of_one_batch_have_times_of_their_own(watch: Watch) -> None:
    for step in range(1, 5):
        watch.step((0, step), 1.0)
        for _ in range(12):
            watch.heard()
            watch.step((0, step), 1.0)  # the beats repeat it
            assert watch.tick(TICK, 0.1) is Health.WELL
    assert seconds_until(Health.HANGS, watch, 0.1, beats=True) < 10


def test_a_step_ends_with_its_batch(watch: Watch) -> None:
    watch.step((0, 1), 60.0)
    watch.progress()
    assert seconds_until(Health.HANGS, watch, 0.1, beats=True) <= 3


def test_a_loading_worker_may_be_silent_up_to_its_limit() -> None:
    watch = Watch(load_limit=10)
    assert seconds_until(Health.HANGS, watch, None, beats=False) == pytest.approx(10, abs=2 * TICK)
    assert "10 s" in watch.why


def test_time_in_which_we_stood_still_ourselves_is_not_held_against_the_worker(
    watch: Watch,
) -> None:
    assert watch.tick(3600, 0.1) is Health.WELL


def test_waiting_for_a_core_is_no_hang_unless_it_lasts_five_times_as_long(watch: Watch) -> None:
    ticks = 1
    while watch.tick(TICK, 0.1, starved=TICK) is not Health.HANGS:
        ticks += 1
    assert ticks * TICK == pytest.approx(5 * 2.0, abs=1)


def test_it_is_worth_looking_closer_only_when_something_is_overdue(watch: Watch) -> None:
    assert Watch(load_limit=10).in_doubt  # it loads
    watch.heard()
    watch.tick(TICK, 0.1)
    assert not watch.in_doubt
    for _ in range(4):
        watch.tick(TICK, 0.1)
    assert watch.in_doubt


def test_a_load_may_take_three_times_the_last_one() -> None:
    assert load_limit(600, None, 0) == 600
    assert load_limit(600, 20, 0) == 60
    assert load_limit(600, 0.1, 0) == 5


def test_each_load_over_the_limit_doubles_it_up_to_that_of_the_first() -> None:
    assert [load_limit(600, 20, slow) for slow in range(6)] == [60, 120, 240, 480, 600, 600]
    assert load_limit(10, 20, 5) == 60
