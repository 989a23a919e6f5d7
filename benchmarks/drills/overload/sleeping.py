"""A worker that sleeps instead of computing: no core is short, and what is lost, the rule loses."""

from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.load import judge
from benchmarks.drills.load.loads import closed, environment, opened
from benchmarks.drills.load.mix import small
from benchmarks.drills.service import service
from benchmarks.drills.shim import FOLDER
from benchmarks.drills.shim.sitecustomize import SLEEPS

_TIMES = (3, 10)


def run(report: Report) -> None:
    seconds = 3.0 if report.short else 20.0
    sleeps = report.folder / "sleeps"
    shim = {"PYTHONPATH": str(FOLDER), SLEEPS: str(sleeps)}
    settings = {**environment(short=report.short), **shim}
    with service(report.folder / "service", settings) as running:
        sleeps.touch()
        calm = closed(running.url, small(), seconds / 2)
        capacity = calm.figures.goodput
        report.check("the capacity", f"{capacity:.1f} images/s", capacity > 0)
        if capacity <= 0:
            return
        for times in _TIMES[-1:] if report.short else _TIMES:
            loaded = opened(running.url, small(), times * capacity, seconds)
            judge.crowd(report, f"{times}x", loaded, capacity)


DRILL = Drill("sleeping", run, seconds=120, short_seconds=60)
