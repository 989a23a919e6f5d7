"""One and two busy loops on the cores that the service has: it keeps most of what the bare scorer
keeps beside them, and is itself again soon after.
"""

import math
import time

from benchmarks.drills.aside import Aside
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.load import bare, judge
from benchmarks.drills.load.burner import busy_loops
from benchmarks.drills.load.figures import Figures, rate_between
from benchmarks.drills.load.generator import GRACE_SECONDS, Stream, generate
from benchmarks.drills.load.loads import (
    CLIENTS,
    DEADLINE,
    NAME,
    WARM_SECONDS,
    closed,
    environment,
)
from benchmarks.drills.load.mix import photographs, small
from benchmarks.drills.service import Service, service

_LOOPS = (1, 2)
_KEPT = 0.6
_RECOVERY_SECONDS = 3.0
_RECOVERED = 0.9
_SPARE = 60.0


def run(report: Report) -> None:
    seconds = 4.0 if report.short else 15.0
    with service(report.folder, environment(short=report.short)) as running:
        calm = closed(running.url, small(), seconds).figures.goodput
        report.check("the capacity", f"{calm:.1f} images/s", calm > 0)
        for loops in _LOOPS[:1] if report.short else _LOOPS:
            scorer = math.nan
            if not report.short:
                with busy_loops(loops):
                    scorer = bare.best(photographs(), seconds / 3)
            _beside(report, running, loops, scorer, calm, seconds)


def _beside(
    report: Report, running: Service, loops: int, scorer: float, calm: float, seconds: float
) -> None:
    name = f"{loops} busy loop{'s' if loops > 1 else ''}"
    after = _RECOVERY_SECONDS + seconds / 2
    total = WARM_SECONDS + seconds + after
    streams = (Stream(NAME, small(), clients=CLIENTS),)
    with Aside(generate, running.url, streams, total) as sending:
        begin = time.monotonic()
        with busy_loops(loops):
            started = time.monotonic()
            time.sleep(max(0.0, begin + WARM_SECONDS + seconds - started))
            ended = time.monotonic()
        sent = sending.wait(total + GRACE_SECONDS + _SPARE)
    figures = Figures.of(sent, NAME, deadline=DEADLINE)
    judge.answers(report, name, sent, figures)
    late = sum(e.status == 504 for e in figures.exchanges)
    report.check(f"{name}: no 504 at ordinary load", figures.statuses(), not late)
    rate = rate_between(sent, started + WARM_SECONDS, ended)
    figure = f"{rate:.1f} images/s, the bare scorer {scorer:.1f}, alone {calm:.1f}"
    report.timing(
        f"{name}: at least 60 % of the bare scorer's rate", figure, rate >= _KEPT * scorer
    )
    later = rate_between(sent, ended + _RECOVERY_SECONDS, sent.end)
    report.timing(
        f"{name}: recovered within {_RECOVERY_SECONDS:g} s",
        f"{later:.1f} of {calm:.1f} images/s",
        later >= _RECOVERED * calm,
    )


DRILL = Drill("busy", run, seconds=240, short_seconds=120)
