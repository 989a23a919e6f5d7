"""The promises of every load, as findings."""

from benchmarks.drills.frame import Report
from benchmarks.drills.load.figures import Figures
from benchmarks.drills.load.generator import Sent
from benchmarks.drills.load.loads import Loaded

GOODPUT = 0.9
_LATE = 0.01
HONEST = {200, 429, 503, 504}
# Refusals of which some must have another Retry-After than the others.
_SEVERAL = 20


def answers(report: Report, name: str, sent: Sent, figures: Figures) -> None:
    """Counts: one answer each, of the kinds that overload may have."""
    none = [e for e in figures.exchanges if not e.status]
    figure = f"{figures.statuses()}; {sent.unasked} to nothing"
    report.check(f"{name}: one answer each", figure, not none and not sent.unasked)
    others = {e.status for e in figures.exchanges} - HONEST - {0}
    report.check(f"{name}: only 200, 429, 503 and 504", sorted(others) or "no other", not others)
    waits = {e.retry_after for e in figures.refused}
    holds = None not in waits and (len(waits) > 1 or len(figures.refused) < _SEVERAL)
    promise = f"{name}: each refusal has its Retry-After, not all the same"
    report.check(promise, waits_of(figures), holds)


def crowd(report: Report, name: str, loaded: Loaded, capacity: float) -> None:
    """Seconds and throughput of an open loop, beside what could be served."""
    figures = loaded.figures
    answers(report, name, loaded.sent, figures)
    share = figures.goodput / max(1e-9, capacity)
    figure = f"{share:.0%} ({figures.goodput:.1f} of {capacity:.1f} images/s)"
    report.timing(f"{name}: goodput at least 90 % of the capacity", figure, share >= GOODPUT)
    late = f"{figures.late:.1%}"
    report.timing(f"{name}: late at most 1 % of the admitted", late, figures.late <= _LATE)
    p99 = figures.quantile(0.99)
    report.timing(
        f"{name}: p99 at most half of the deadline", f"{p99:.2f} s", p99 <= figures.deadline / 2
    )
    if figures.come_back:
        figure = f"{figures.back_served:.0%} of {len(figures.come_back)}"
        promise = f"{name}: who comes back in its time is served more often than not"
        report.timing(promise, figure, figures.back_served > 0.5)


def waits_of(figures: Figures) -> str:
    """The shortest and the longest Retry-After, and how many there are."""
    waits = sorted({e.retry_after for e in figures.refused if e.retry_after is not None})
    missing = sum(e.retry_after is None for e in figures.refused)
    if not figures.refused:
        return "no refusal"
    span = f"{waits[0]} to {waits[-1]} s, {len(waits)} values" if waits else "none"
    return f"{span}, {missing} without" if missing else span
