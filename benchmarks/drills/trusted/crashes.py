"""Blows to the processes behind the service: killed, stopped or crashed; while idle, under load,
loading and in the drain.
"""

import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.drills import traffic
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.processes import is_alive, wait_for
from benchmarks.drills.service import Service, service

_BLOWS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)
_ROLES = ("device", "decoder")
_FOUND_SECONDS = 3.0
_FALLS_SECONDS = 2.0
_BESIDE_LOAD_SECONDS = 2.0  # of healing, beyond the time to load
_BUNDLED_SECONDS = 10.0
_DRAIN_SECONDS = 10
# How long the drill looks on, in seconds: past it a promise is broken anyway.
_PATIENCE = 25.0
# Answers that were on their way when the process was hit come by then.
_SETTLED = 0.5
# A worker that was just started is in its imports then.
_IMPORTING = 0.5
_LOAD = 16  # requests under way
_AFTERWARDS = 4  # where there are none
# Answers to what was accepted; a decode worker's end may cost its image.
_ANSWERED = {"device": traffic.HONEST | {200}, "decoder": traffic.HONEST | {200, 400}}
_ENVIRONMENT = {"AGIQA_DRAIN_SECONDS": str(_DRAIN_SECONDS), "AGIQA_DEADLINE_SECONDS": "20"}


@dataclass
class _Course:
    """What followed a blow, in seconds after it; None: did not come while the drill looked on."""

    fell: float | None = None  # readiness
    found: float | None = None  # the process that was hit is gone
    served: float | None = None  # a score again
    answers: list[traffic.Answer] = field(default_factory=list)

    def __str__(self) -> str:
        times = {"found": self.found, "not ready": self.fell, "serving again": self.served}
        shown = [
            f"{name} {'never' if value is None else f'{value:.1f} s'}"
            for name, value in times.items()
        ]
        return ", ".join(shown)


def run(report: Report) -> None:
    blows = (signal.SIGKILL,) if report.short else _BLOWS
    for role, blow in itertools.product(_ROLES, blows):
        _one_service(report, role, blow)
    _while_loading(report, blows)


def _one_service(report: Report, role: str, blow: signal.Signals) -> None:
    """Idle, under load, in the drain, in the life of one service: two restarts at most, so that
    pauses between restarts stay short.
    """
    folder = report.folder / f"{role}-{blow.name}"
    with service(folder, _ENVIRONMENT) as running:
        subjects = traffic.learn(running.url, traffic.uploads())
        if not running.pids(role):
            report.check(f"{role} {blow.name}", f"there is no {role} process", holds=False)
            return
        for load in (0, _LOAD):
            name = f"{role} {blow.name} {'under load' if load else 'idle'}"
            course = _course(running, subjects, role, blow, load)
            _judge(report, name, role, course, running.load_seconds)
            if course.served is None:
                return
        _in_the_drain(report, running, subjects, role, blow)


def _course(
    running: Service,
    subjects: Sequence[traffic.Subject],
    role: str,
    blow: signal.Signals,
    load: int,
) -> _Course:
    """Strikes, and looks on until a score comes again. Where nothing is under way, requests come
    right after: nobody misses a process that has nothing to do.
    """
    before = _burst(running, subjects, load) if load else None
    (struck, *_) = running.pids(role)
    course = _Course()
    start = time.monotonic()
    os.kill(struck, blow)
    with _watching(running, course, struck, start):
        burst = before or traffic.burst(running.url, subjects, _AFTERWARDS)
        course.served = _served(running, subjects[0], start)
        course.answers = burst.answers()
        wait_for(lambda: course.found is not None, _PATIENCE - (time.monotonic() - start))
    if course.served is not None and course.found is not None:
        after = [a.at - start for a in course.answers if a.status == 200]
        served = [seconds for seconds in after if seconds > course.found + _SETTLED]
        course.served = min([course.served, *served])
    return course


def _burst(running: Service, subjects: Sequence[traffic.Subject], count: int) -> traffic.Burst:
    """Requests, more than half of which are under way."""
    burst = traffic.burst(running.url, subjects, count)
    wait_for(lambda: (running.metric("agiqa_requests_in_flight") or 0) > count // 2, 5)
    return burst


@contextmanager
def _watching(running: Service, course: _Course, struck: int, start: float) -> Iterator[None]:
    """Notes when the process is gone and when readiness falls."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if course.found is None and not is_alive(struck):
                course.found = time.monotonic() - start
            if course.fell is None and running.status("/readyz") == 503:
                course.fell = time.monotonic() - start

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _served(running: Service, subject: traffic.Subject, start: float) -> float | None:
    """Asks until there is a score; the seconds since ``start``."""
    while (left := _PATIENCE - (time.monotonic() - start)) > 0:
        answer = traffic.post(running.url, subject, timeout=left)
        if answer.status == 200:
            return answer.at - start
        time.sleep(0.05)
    return None


def _judge(report: Report, name: str, role: str, course: _Course, load_seconds: float) -> None:
    lost = [a for a in course.answers if a.status not in _ANSWERED[role]]
    wrong = traffic.wrong(course.answers)
    figure = f"{traffic.statuses(course.answers)}; {wrong} wrong scores"
    report.check(f"{name}: nothing accepted is lost", figure, not lost and not wrong)
    report.check(f"{name}: it serves again", course, course.served is not None)
    heal = _BESIDE_LOAD_SECONDS + (load_seconds if role == "device" else 0)
    found, fell, served = (_or_never(each) for each in (course.found, course.fell, course.served))
    limit = min(min(found, _FOUND_SECONDS) + heal, max(_BUNDLED_SECONDS, heal))
    holds = found <= _FOUND_SECONDS and served <= limit
    promise = f"{name}: found within {_FOUND_SECONDS:g} s, serving again within {limit:.1f} s"
    if role == "device":
        promise += f", not ready within {_FALLS_SECONDS:g} s"
        holds = holds and fell <= _FALLS_SECONDS
    report.timing(promise, f"{course} (a load takes {load_seconds:.1f} s)", holds)


def _wait_for_another(running: Service, first: int) -> None:
    """A device worker other than the first."""
    wait_for(lambda: set(running.pids("device")) - {first}, _PATIENCE)


def _or_never(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def _in_the_drain(
    report: Report,
    running: Service,
    subjects: Sequence[traffic.Subject],
    role: str,
    blow: signal.Signals,
) -> None:
    """SIGTERM with requests under way, and the blow right after."""
    burst = _burst(running, subjects, _LOAD)
    pids = running.pids(role)
    running.running.process.terminate()
    if pids:
        os.kill(pids[0], blow)
    start = time.monotonic()
    name = f"{role} {blow.name} in the drain"
    ended = wait_for(lambda: running.running.process.poll() is not None, _PATIENCE)
    answers = burst.answers()
    # Those that came after the door was closed were not accepted.
    lost = [a for a in answers if a.status not in _ANSWERED[role] | {0}]
    lost += [a for a in answers if a.status == 0 and a.code != "ConnectError"]
    report.check(f"{name}: nothing accepted is lost", traffic.statuses(answers), not lost)
    figure = f"status {running.running.process.poll()} after {time.monotonic() - start:.1f} s"
    limit = _DRAIN_SECONDS + 5
    report.check(f"{name}: it ends", figure, running.running.process.poll() == 0)
    report.timing(f"{name}: within {limit} s", figure, ended is not None and ended <= limit)


def _while_loading(report: Report, blows: Sequence[signal.Signals]) -> None:
    """A worker is killed; the one that replaces it is hit while it loads."""
    for blow in blows:
        with service(report.folder / f"loading-{blow.name}", _ENVIRONMENT) as running:
            subjects = traffic.learn(running.url, traffic.uploads(2))
            (first, *_) = running.pids("device")
            os.kill(first, signal.SIGKILL)
            _wait_for_another(running, first)
            time.sleep(_IMPORTING)
            course = _course(running, subjects, "device", blow, 0)
            limit = 3 * running.load_seconds
            name = f"device {blow.name} while loading"
            report.check(f"{name}: it serves again", course, course.served is not None)
            holds = _or_never(course.found) <= limit
            report.timing(f"{name}: found within {limit:.1f} s", course, holds)


DRILL = Drill("crashes", run, seconds=420, short_seconds=110)
