"""What a drill is, how it reports, and how all of a part are run: bounded in time, a line per
promise, a table at the end.
"""

import contextlib
import importlib
import logging
import pkgutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What became of a promise."""

    HOLDS = "ok"
    BROKEN = "FAIL"
    # A figure for the reader: timings where the machine is not ours, as in CI.
    NOT_JUDGED = "info"
    # What it takes is not here: a program, or a metric of a later version.
    UNKNOWN = "?"


@dataclass(frozen=True)
class Finding:
    """A promise and what was measured."""

    promise: str
    figure: str
    verdict: Verdict


@dataclass
class Report:
    """What one drill found; each finding is printed as it comes."""

    name: str
    short: bool
    folder: Path
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def check(self, promise: str, figure: object, holds: bool) -> None:
        """A promise about counts, which holds on any machine."""
        self._add(promise, figure, Verdict.HOLDS if holds else Verdict.BROKEN)

    def timing(self, promise: str, figure: object, holds: bool) -> None:
        """A promise about seconds or memory: judged in the full form alone."""
        if self.short:
            self._add(promise, figure, Verdict.NOT_JUDGED)
        else:
            self.check(promise, figure, holds)

    def note(self, what: str, figure: object) -> None:
        """A figure that is no promise."""
        self._add(what, figure, Verdict.NOT_JUDGED)

    def unknown(self, promise: str, why: object) -> None:
        """A promise that can't be looked at here."""
        self._add(promise, why, Verdict.UNKNOWN)

    @property
    def broken(self) -> bool:
        return any(finding.verdict is Verdict.BROKEN for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        findings = [
            {"promise": f.promise, "figure": f.figure, "verdict": f.verdict.value}
            for f in self.findings
        ]
        return {"drill": self.name, "seconds": round(self.seconds, 1), "findings": findings}

    def _add(self, promise: str, figure: object, verdict: Verdict) -> None:
        finding = Finding(promise, str(figure), verdict)
        self.findings.append(finding)
        print(f"{verdict:4}  {self.name}: {promise}: {finding.figure}", flush=True)


@dataclass(frozen=True)
class Drill:
    """One drill of a part.

    ``seconds`` bounds the full form, ``short_seconds`` the one that CI runs: a promise that is
    broken by a hang ends the drill, not the run.
    """

    name: str
    run: Callable[[Report], object]
    seconds: int
    short_seconds: int


class OutOfTime(Exception):
    """The drill took longer than it may."""


def drills_of(part: str) -> list[Drill]:
    """The drills of a part, by name.

    Raises:
        ModuleNotFoundError: no such part.
    """
    package = importlib.import_module(f"benchmarks.drills.{part}")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [module.DRILL for module in modules if hasattr(module, "DRILL")]


def run_all(drills: Sequence[Drill], *, short: bool) -> list[Report]:
    """Runs one after another; one that raises or takes too long is a broken promise of its own."""
    return [_run(drill, short=short) for drill in drills]


def _run(drill: Drill, *, short: bool) -> Report:
    limit = drill.short_seconds if short else drill.seconds
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True) as folder:
        report = Report(drill.name, short, Path(folder))
        try:
            with time_limit(limit):
                drill.run(report)
        except OutOfTime:
            report.check("it ends in time", f"not within {limit} s", holds=False)
        except Exception as error:
            logger.exception("the drill %s ended early", drill.name)
            report.check("it runs to its end", f"{type(error).__name__}: {error}", holds=False)
    report.seconds = time.monotonic() - start
    return report


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime in the main thread when the block takes longer.

    An outer limit that would come first goes on to count.
    """

    def late(_: int, __: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, late)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.monotonic()
    try:
        yield
    finally:
        rest = max(0.001, left - (time.monotonic() - start)) if left else 0.0
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, rest)


def table(reports: Sequence[Report]) -> str:
    """A line per drill."""
    width = max((len(report.name) for report in reports), default=0)
    lines = [f"{'drill':{width}}  held  broken  not judged  unknown  seconds"]
    for report in reports:
        counts = [sum(f.verdict is verdict for f in report.findings) for verdict in Verdict]
        held, broken, not_judged, unknown = counts
        lines.append(
            f"{report.name:{width}}  {held:4}  {broken:6}  {not_judged:10}  {unknown:7}"
            f"  {report.seconds:7.0f}"
        )
    return "\n".join(lines)
