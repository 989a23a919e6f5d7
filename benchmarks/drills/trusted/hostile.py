"""The hostile corpus beside real traffic: no error of ours, a live process, bounded memory, and
others' answers as quick and as right as may be.
"""

import concurrent.futures
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.drills import traffic
from benchmarks.drills.corpus import Hostile, bombs, mutants, odd_files
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.probes import Probes, probing
from benchmarks.drills.processes import MemoryWatch, tree_pss
from benchmarks.drills.service import Service, service

_KEYS = {"AGIQA_API_KEYS": "hostile,real"}
_MUTANTS = 20_000
_MUTANTS_SHORT = 960
_PER_CALL = 64
_ALONE_SECONDS = 45.0
_ALONE_SECONDS_SHORT = 4.0
_BESIDE = 2  # hostile uploads under way at a time
_MEMORY = int(1.5 * 2**30)
# Where nothing bounds the memory, the drill does.
_CAP = 4 << 30
_TIMEOUT = 60.0


@dataclass
class _Hostilities:
    """What the hostile uploads got: (status, code) -> how many, and which got a server's error."""

    seen: Counter[tuple[int, str]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)  # over the limits, and not refused

    def add(self, name: str, status: int, code: str) -> None:
        self.seen[status, code] += 1
        if status == 0 or (status >= 500 and status not in {503, 504}):
            self.errors.append(f"{name}: {status} {code}")

    def __str__(self) -> str:
        counts = sorted(self.seen.items())
        return ", ".join(
            f"{status} {code} x {n}".replace("  ", " ") for (status, code), n in counts
        )


def run(report: Report) -> None:
    with service(report.folder, _KEYS) as running:
        subjects = traffic.learn(running.url, traffic.uploads(), key="real")
        alone = _alone(running, subjects, _ALONE_SECONDS_SHORT if report.short else _ALONE_SECONDS)
        idle = tree_pss(running.pid)
        with (
            MemoryWatch(running.pid, idle + _CAP) as memory,
            probing(running.url) as prober,
            traffic.Traffic(running.url, subjects, key="real") as real,
        ):
            hostilities = _attack(running, short=report.short)
            probes, answers = prober.result(), real.result()
        _judge_answers(report, hostilities, running.log)
        _judge_memory(report, memory, idle)
        _judge_others(report, probes, alone, answers)


def _alone(running: Service, subjects: Sequence[traffic.Subject], seconds: float) -> float:
    """The traffic's p99 when nothing else happens."""
    with traffic.Traffic(running.url, subjects, key="real") as real:
        time.sleep(seconds)
        return traffic.quantile(real.result(), 0.99)


def _attack(running: Service, *, short: bool) -> _Hostilities:
    """Posts all, in order; ends early where the service is no more."""
    hostilities = _Hostilities()
    files = [*(_few(bombs()) if short else bombs()), *odd_files()]
    with concurrent.futures.ThreadPoolExecutor(_BESIDE) as pool:
        for _ in pool.map(lambda file: _post(running, file, hostilities), files):
            pass
        calls = _calls(mutants(_MUTANTS_SHORT if short else _MUTANTS))
        for _ in pool.map(lambda call: _post_all(running, call, hostilities), calls):
            pass
    return hostilities


def _few(files: Sequence[Hostile]) -> list[Hostile]:
    """All that the header gives away, and a third of the others."""
    return [*(f for f in files if f.refused), *[f for f in files if not f.refused][::3]]


def _calls(files: Iterator[bytes]) -> Iterator[list[bytes]]:
    while call := list(itertools.islice(files, _PER_CALL)):
        yield call


def _post(running: Service, file: Hostile, hostilities: _Hostilities) -> None:
    subject = traffic.Subject("/score", file.data)
    if running.running.process.poll() is not None:
        return
    answer = traffic.post(running.url, subject, key="hostile", timeout=_TIMEOUT)
    hostilities.add(file.name, answer.status, answer.code)
    if file.refused and answer.status not in {400, 413}:
        hostilities.decoded.append(f"{file.name}: {answer.status} {answer.code}")


def _post_all(running: Service, files: Sequence[bytes], hostilities: _Hostilities) -> None:
    """One batch call; its items count one by one."""
    if running.running.process.poll() is not None:
        return
    try:
        answer = httpx.post(
            f"{running.url}/score/batch",
            files=[("images", ("mutant", data)) for data in files],
            headers={"Authorization": "Bearer hostile"},
            timeout=_TIMEOUT,
            trust_env=False,
        )
    except httpx.TransportError as error:
        hostilities.add("a call of mutants", 0, type(error).__name__)
        return
    if answer.status_code != 200:
        hostilities.add("a call of mutants", answer.status_code, traffic.code_of(answer))
        return
    for item in answer.json()["results"]:
        hostilities.add("a mutant", item.get("status", 200), item.get("code", ""))


def _judge_answers(report: Report, hostilities: _Hostilities, log: Path) -> None:
    errors, total = hostilities.errors, sum(hostilities.seen.values())
    some = "; ".join(sorted(set(errors))[:6])
    figure = f"{len(errors)} of {total} ({some or hostilities})"
    report.check("no 5xx but 503 and 504, and no silence", figure, not errors)
    decoded = hostilities.decoded
    figure = "; ".join(decoded) or "none decoded"
    report.check("what is over the limits is refused by its header", figure, not decoded)
    bad = sum(not _is_json(line) for line in log.read_text(errors="replace").splitlines())
    report.check("a stranger's file writes nothing into the log", f"{bad} lines no JSON", bad == 0)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _judge_memory(report: Report, memory: MemoryWatch, idle: int) -> None:
    over = (memory.peak - idle) / 2**20
    ended = "; ended there by the drill" if memory.capped else ""
    figure = f"{over:.0f} MiB over {idle / 2**20:.0f}{ended}"
    promise = f"all processes take at most {_MEMORY >> 20} MiB over idle"
    report.timing(promise, figure, over * 2**20 <= _MEMORY)
    report.check("memory is bounded", figure, not memory.capped)


def _judge_others(
    report: Report, probes: Probes, alone: float, answers: Sequence[traffic.Answer]
) -> None:
    report.timing("/livez within 100 ms", probes, probes.excess <= 0.1)
    report.check(
        "/livez always answers", f"{probes.failed} of {probes.count} did not", not probes.failed
    )
    beside = traffic.quantile(answers, 0.99)
    figure = f"{beside:.2f} s, alone {alone:.2f} s; {traffic.statuses(answers)}"
    report.timing("real traffic's p99 at most doubles", figure, beside <= 2 * alone)
    wrong = traffic.wrong(answers)
    report.check("no wrong score", f"{wrong} of {len(answers)}", not wrong)


DRILL = Drill("hostile", run, seconds=420, short_seconds=100)
