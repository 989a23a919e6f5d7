"""The figures of a load are those of its exchanges."""

import math
from pathlib import Path

import pytest

from benchmarks.drills.frame import Report, Verdict
from benchmarks.drills.load import judge
from benchmarks.drills.load.figures import Figures, cpu_per_refusal, rate_between
from benchmarks.drills.load.generator import BACK, Sent
from benchmarks.drills.load.loads import Loaded
from benchmarks.drills.load.wire import Exchange
from benchmarks.drills.soak.soak import Sample, growth, seconds_of

MIB = 2**20


def exchange(due: float, seconds: float, status: int = 200, **more: object) -> Exchange:
    scores = int(status == 200)
    return Exchange("a", due, sent=due, done=due + seconds, status=status, scores=scores, **more)  # type: ignore[arg-type]


def sent(*exchanges: Exchange, seconds: float = 10.0) -> Sent:
    return Sent(0.0, seconds, exchanges=list(exchanges))


def test_goodput_counts_what_was_served_in_time_while_the_load_went_on() -> None:
    load = sent(
        exchange(0, 1),  # within the warm-up
        exchange(1, 2),
        exchange(1, 8.5),  # after the deadline
        exchange(9, 2),  # after the end
        exchange(5, 0, 429),
    )
    figures = Figures.of(load, "a", warm=2, deadline=8)
    assert figures.goodput == pytest.approx(1 / 8)
    assert len(figures.served) == 4
    assert figures.late == pytest.approx(1 / 4)


def test_what_ends_in_504_is_late_and_what_is_refused_is_not() -> None:
    load = sent(exchange(0, 1), exchange(0, 8, 504), exchange(0, 0, 429), exchange(0, 0, 429))
    assert Figures.of(load, "a").late == 0.5


def test_seconds_count_from_when_a_request_was_due() -> None:
    late = Exchange("a", due=1.0, sent=3.0, done=4.0, status=200, scores=1)
    figures = Figures.of(sent(late), "a")
    assert figures.quantile(0.99) == 3.0
    assert figures.lag(0.99) == 2.0
    assert math.isnan(Figures.of(sent(), "a").quantile(0.5))


def test_who_came_back_is_no_part_of_the_load() -> None:
    back = exchange(5, 1)
    back.stream += BACK
    figures = Figures.of(sent(exchange(0, 1, 429), back, exchange(6, 1)), "a")
    assert figures.statuses() == "200 x 1, 429 x 1"
    assert figures.back_served == 1.0
    assert Figures.of(sent(back)).exchanges == []


def test_a_refusal_costs_what_the_crowd_took_beyond_its_answers() -> None:
    calm = sent(*[exchange(1, 1) for _ in range(10)])
    calm.watched[7] = 1.0
    crowd = sent(*[exchange(1, 1) for _ in range(20)], *[exchange(1, 0, 429) for _ in range(100)])
    crowd.watched[7] = 2.5
    found = cpu_per_refusal(calm, Figures.of(calm, "a"), crowd, Figures.of(crowd, "a"), 7)
    assert found == pytest.approx(0.005)


def test_a_rate_between_two_moments_counts_images() -> None:
    assert rate_between(sent(exchange(0, 1), exchange(0, 3), exchange(0, 6)), 2, 6) == 0.5


def findings(folder: Path, load: Sent, capacity: float) -> dict[str, Verdict]:
    report = Report("example", short=False, folder=folder)
    judge.crowd(report, "3x", Loaded(load, Figures.of(load, "a")), capacity)
    return {finding.promise: finding.verdict for finding in report.findings}


def test_a_crowd_that_is_served_in_time_keeps_all_promises(tmp_path: Path) -> None:
    refused = [exchange(2, 0, 429, retry_after=1 + n % 2) for n in range(30)]
    load = sent(*[exchange(n, 0.5) for n in range(9)], *refused)
    assert set(findings(tmp_path, load, 0.9).values()) == {Verdict.HOLDS}


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        ([exchange(0, 1, 0)], "one answer each"),
        ([exchange(0, 1, 500)], "only 200"),
        ([exchange(0, 1, 429, retry_after=3) for _ in range(30)], "Retry-After"),
        ([exchange(0, 1, 429)], "Retry-After"),
        ([exchange(0, 9, 504)], "late"),
        ([exchange(0, 6)], "p99"),
    ],
    ids=["no answer", "500", "one constant", "no Retry-After", "504", "slow"],
)
def test_a_crowd_that_is_not_breaks_the_promise(
    tmp_path: Path, broken: list[Exchange], promise: str
) -> None:
    load = sent(*[exchange(n, 0.5) for n in range(9)], *broken)
    found = findings(tmp_path, load, 0.9)
    assert [v for name, v in found.items() if promise in name] == [Verdict.BROKEN]


def test_too_little_goodput_is_a_broken_promise(tmp_path: Path) -> None:
    found = findings(tmp_path, sent(exchange(0, 0.5)), 1.0)
    assert [name for name, verdict in found.items() if verdict is Verdict.BROKEN] == [
        "3x: goodput at least 90 % of the capacity"
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400)]
)
def test_the_length_of_a_soak_is_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["m", "ten", "10d"])
def test_another_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        seconds_of(text)


def test_a_leak_is_seen_and_a_large_batch_is_not() -> None:
    def samples(*extra: int, slope: float) -> list[Sample]:
        points = range(0, 600, 5)
        peaks = dict.fromkeys(extra, 200 * MIB)
        return [Sample(t, 0, int(slope * t / 60 * MIB) + peaks.get(t, 0), 1, 1) for t in points]

    assert growth(samples(slope=2)) == pytest.approx(2, rel=0.01)
    assert abs(growth(samples(595, 590, slope=0))) < 0.01
