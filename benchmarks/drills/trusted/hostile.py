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
from tests.app.miniatures import photograph_model

_KEYS = {"AGIQA_API_KEYS": "hostile,real"}
_MUTANTS = 20_000
_MUTANTS_SHORT = 960
_PER_CALL = 64
# A network that costs next to nothing scores the mutants that can be read: decoding is looked at.
_MINIATURE = "miniature"
_ATTACK_SECONDS = 270.0
_ATTACK_SECONDS_SHORT = 60.0
_ALONE_SECONDS = 45.0
_ALONE_SECONDS_SHORT = 4.0
_BESIDE = 2  # hostile uploads under way at a time
_MEMORY = int(1.5 * 2**30)
# Where nothing bounds the memory, the drill does.
_CAP = 4 << 30
_TIMEOUT = 60.0


@dataclass
class _Attack:
    """Posts hostile files, and what they got: (status, code) -> how many, which got a server's
    error, and which were decoded though they are over the limits.
    """

    running: Service
    end: float  # on the monotonic clock; what has not been posted by then is left out
    left_out: int = 0
    seen: Counter[tuple[int, str]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)

    def post(self, file: Hostile) -> None:
        if self._is_over(1):
            return
        subject = traffic.Subject("/score", file.data)
        answer = traffic.post(self.running.url, subject, key="hostile", timeout=_TIMEOUT)
        self._add(file.name, answer.status, answer.code)
        if file.refused and answer.status not in {400, 413}:
            self.decoded.append(f"{file.name}: {answer.status} {answer.code}")

    def post_all(self, files: Sequence[bytes]) -> None:
        """One batch call; its items count one by one."""
        if self._is_over(len(files)):
            return
        try:
            answer = httpx.post(
                f"{self.running.url}/score/batch?model={_MINIATURE}",
                files=[("images", ("mutant", data)) for data in files],
                headers={"Authorization": "Bearer hostile"},
                timeout=_TIMEOUT,
                trust_env=False,
            )
        except httpx.TransportError as error:
            self._add("a call of mutants", 0, type(error).__name__)
            return
        if answer.status_code != 200:
            self._add("a call of mutants", answer.status_code, traffic.code_of(answer))
            return
        for item in answer.json()["results"]:
            self._add("a mutant", item.get("status", 200), item.get("code", ""))

    def _is_over(self, count: int) -> bool:
        over = time.monotonic() > self.end or self.running.running.process.poll() is not None
        self.left_out += count * over
        return over

    def _add(self, name: str, status: int, code: str) -> None:
        self.seen[status, code] += 1
        if status == 0 or (status >= 500 and status not in {503, 504}):
            self.errors.append(f"{name}: {status} {code}")

    def __str__(self) -> str:
        counts = sorted(self.seen.items())
        return ", ".join(f"{f'{status} {code}'.strip()} x {n}" for (status, code), n in counts)


def run(report: Report) -> None:
    miniature = photograph_model(report.folder / _MINIATURE)
    models = f"tiny-mpiqe,tiny-clip-agiqa,{miniature}"
    with service(report.folder, {**_KEYS, "AGIQA_MODELS": models}) as running:
        subjects = traffic.learn(running.url, traffic.uploads(), key="real")
        alone = _alone(running, subjects, _ALONE_SECONDS_SHORT if report.short else _ALONE_SECONDS)
        idle = tree_pss(running.pid)
        with (
            MemoryWatch(running.pid, idle + _CAP) as memory,
            probing(running.url) as prober,
            traffic.Traffic(running.url, subjects, key="real") as real,
        ):
            attack = _attack(running, short=report.short)
            probes, answers = prober.result(), real.result()
        _judge_answers(report, attack, running.log)
        _judge_memory(report, memory, idle)
        _judge_others(report, probes, alone, answers)


def _alone(running: Service, subjects: Sequence[traffic.Subject], seconds: float) -> float:
    """The traffic's p99 when nothing else happens."""
    with traffic.Traffic(running.url, subjects, key="real") as real:
        time.sleep(seconds)
        return traffic.quantile(real.result(), 0.99)


def _attack(running: Service, *, short: bool) -> _Attack:
    """Posts all, in order; ends early where the service is no more."""
    seconds = _ATTACK_SECONDS_SHORT if short else _ATTACK_SECONDS
    attack = _Attack(running, time.monotonic() + seconds)
    files = [*(_few(bombs()) if short else bombs()), *odd_files()]
    calls = _calls(mutants(_MUTANTS_SHORT if short else _MUTANTS))
    with concurrent.futures.ThreadPoolExecutor(_BESIDE) as pool:
        list(pool.map(attack.post, files))
        list(pool.map(attack.post_all, calls))
    return attack


def _few(files: Sequence[Hostile]) -> list[Hostile]:
    """All that the header gives away, and a third of the others."""
    return [*(f for f in files if f.refused), *[f for f in files if not f.refused][::3]]


def _calls(files: Iterator[bytes]) -> Iterator[list[bytes]]:
    while call := list(itertools.islice(files, _PER_CALL)):
        yield call


def _judge_answers(report: Report, attack: _Attack, log: Path) -> None:
    errors, total = attack.errors, sum(attack.seen.values())
    report.check("all can be posted in time", f"{attack.left_out} left out", not attack.left_out)
    some = "; ".join(sorted(set(errors))[:6])
    figure = f"{len(errors)} of {total} ({some or attack})"
    report.check("no 5xx but 503 and 504, and no silence", figure, not errors)
    decoded = attack.decoded
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
