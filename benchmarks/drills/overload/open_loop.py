"""Three and ten times as many requests as can be served, sent whatever becomes of those before:
what is admitted is answered in time, and refusing costs little. Small uploads, large ones, and
prompts that never repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.drills import probes
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.load import judge
from benchmarks.drills.load.figures import cpu_per_refusal
from benchmarks.drills.load.loads import Loaded, closed, environment, opened
from benchmarks.drills.load.mix import Mix, large, prompted, small
from benchmarks.drills.service import Service, service

_MOST_TIMES = 10  # beside a stand-in for the generator
_KIB = 1024
# A body that is left unread: what the service reads of it, and what the kernel holds for both.
_UNREAD = 1024 * _KIB
_READ_SHARE = 0.05
_PROBES = ("/livez", "/metrics")
_PAUSE = 0.2  # between two probes: they burn what the load does not
_BACK = 40


@dataclass(frozen=True)
class _Course:
    """A mix, and seconds of each load: those of the closed loop and of the open one."""

    name: str
    mix: Mix
    closed: float
    opened: float
    times: Sequence[int]


def run(report: Report) -> None:
    with service(report.folder, environment(short=report.short)) as running:
        for course in _courses(short=report.short):
            _run(report, running, course)


def _courses(*, short: bool) -> list[_Course]:
    seconds = [(3.0, 5.0), (2.0, 3.0)] if short else [(15.0, 60.0), (15.0, 20.0)]
    times = (_MOST_TIMES,) if short else (3, _MOST_TIMES)
    courses = [
        _Course("small", small(), *seconds[0], times),
        _Course("8 MiB", large(), *seconds[1], times),
        _Course("new prompts", prompted(), *seconds[1], times),
    ]
    return courses[:2] if short else courses


def _run(report: Report, running: Service, course: _Course) -> None:
    watch = [running.pid]
    calm = closed(running.url, course.mix, course.closed, watch=watch)
    figure = f"{calm.figures.goodput:.1f} images/s, the generator took {calm.cores}"
    report.check(f"{course.name}: the capacity", figure, calm.figures.goodput > 0)
    if calm.figures.goodput <= 0:
        return
    back = 0 if report.short else _BACK
    for times in course.times:
        name = f"{course.name}, {times}x"
        rate = times * calm.figures.goodput
        with probes.probing(running.url, _PROBES, _PAUSE) as prober:
            loaded = opened(
                running.url, course.mix, rate, course.opened, watch=watch, come_back=back
            )
            seen = prober.result()
        if report.short:
            capacity = calm.figures.goodput
        elif times == _MOST_TIMES:
            extra = max(0.0, loaded.generator_share - calm.generator_share) + seen.share
            capacity = _beside_a_stand_in(report, running, course, extra)
        else:
            capacity = _before_and_after(report, running, course, calm)
        judge.crowd(report, name, loaded, capacity)
        report.timing(f"{name}: /livez and /metrics within 100 ms", seen, seen.excess < 0.1)
        _judge_refusals(report, name, running, calm, loaded, course)


def _before_and_after(report: Report, running: Service, course: _Course, calm: Loaded) -> float:
    """The mean of both: machines that others share get faster and slower within a minute."""
    again = closed(running.url, course.mix, course.closed).figures.goodput
    report.note(f"{course.name}: the capacity afterwards", f"{again:.1f} images/s")
    return (calm.figures.goodput + again) / 2


def _beside_a_stand_in(report: Report, running: Service, course: _Course, extra: float) -> float:
    """The capacity while a process burns what the generator burned beyond the closed loop's, and
    who probed.
    """
    again = closed(running.url, course.mix, course.closed, burning=extra)
    figure = f"{again.figures.goodput:.1f} images/s beside {extra:.1%} of a core"
    report.note(f"{course.name}: the capacity beside a stand-in", figure)
    return again.figures.goodput


def _judge_refusals(
    report: Report, name: str, running: Service, calm: Loaded, loaded: Loaded, course: _Course
) -> None:
    figures = loaded.figures
    seconds = cpu_per_refusal(calm.sent, calm.figures, loaded.sent, figures, running.pid)
    lag = f"late by {1e3 * figures.lag(0.99):.0f} ms (p99)"
    figure = f"{1e3 * seconds:.2f} ms; the generator took {loaded.cores}, {lag}"
    report.note(f"{name}: CPU per refusal (0.5 ms is aimed at)", figure)
    if len(course.mix.images[0]) < _UNREAD:
        return
    read = sum(e.body_sent > _UNREAD for e in figures.refused) / max(1, len(figures.refused))
    figure = f"{read:.1%} were; {figures.bytes_per_refusal / _KIB:.0f} KiB sent of each"
    report.check(f"{name}: bodies of refused requests are not read", figure, read <= _READ_SHARE)


DRILL = Drill("open_loop", run, seconds=540, short_seconds=150)
