"""Mixed load for ten minutes (``SOAK=30m``): images of many sizes, single and in batch calls, with
prompts that never repeat. After the warm-up memory does not grow, and nothing is left behind.
"""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.drills import processes
from benchmarks.drills.aside import Aside
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.load import judge
from benchmarks.drills.load.figures import Figures
from benchmarks.drills.load.generator import GRACE_SECONDS, Stream, generate
from benchmarks.drills.load.loads import AS_SHIPPED
from benchmarks.drills.load.mix import Mix, photographs
from benchmarks.drills.service import Service, service

_MIB = 2**20
_SECONDS_OF = {"s": 1, "m": 60, "h": 3600}
# Caches fill, the allocator finds its size, threads are started.
_WARM_SECONDS = 180.0
_SAMPLE_SECONDS = 5.0
_SPARE = 90.0
_MOST_GROWTH = 1.0  # MiB a minute
# A connection or a thread that comes and goes.
_SLACK = 3
_SIZES = ((224, 224), (320, 240), (512, 512), (640, 360), (1024, 768), (333, 777))


@dataclass(frozen=True)
class Sample:
    """The service's processes together, at a moment: bytes of memory, shared pages by their share,
    and with the pages of files whole.
    """

    seconds: float
    pss: int
    resident: int
    threads: int
    files: int


def seconds_of(text: str) -> float:
    """``90``, ``90s``, ``30m`` or ``1h`` in seconds.

    Raises:
        ValueError: something else.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in _SECONDS_OF else (text, "s")
    return float(number) * _SECONDS_OF[unit]


def growth(samples: Sequence[Sample]) -> float:
    """MiB a minute: between the medians of the first third and of the last, which one large batch
    does not move.
    """
    third = max(1, len(samples) // 3)
    first, last = samples[:third], samples[-third:]
    minutes = (_middle(last, "seconds") - _middle(first, "seconds")) / 60
    grown = (_middle(last, "resident") - _middle(first, "resident")) / _MIB
    return grown / minutes if minutes > 0 else 0.0


def run(report: Report) -> None:
    total = _short(_TOTAL) if report.short else _TOTAL
    warm = min(_WARM_SECONDS, total / 3)
    with service(report.folder, AS_SHIPPED) as running:
        with Aside(generate, running.url, tuple(_streams()), total) as sending:
            samples = _watch(running, total)
            sent = sending.wait(GRACE_SECONDS + _SPARE)
        for stream in ("single", "prompted", "batch"):
            judge.answers(report, stream, sent, Figures.of(sent, stream))
        figures = Figures.of(sent)
        report.check("some are served", figures, bool(figures.served))
        _judge(report, [sample for sample in samples if sample.seconds >= warm])
        held = running.settles("agiqa_arena_bytes", 0.0)
        report.check("no shared memory stays behind", held, held == 0.0)


def _judge(report: Report, samples: Sequence[Sample]) -> None:
    if len(samples) < 2:
        report.check("the service lives", f"{len(samples)} samples", holds=False)
        return
    first, last = samples[0], samples[-1]
    grown = growth(samples)
    span = f"{first.resident / _MIB:.0f} to {last.resident / _MIB:.0f} MiB"
    figure = f"{grown:+.2f} MiB a minute, {span}"
    report.note("PSS", f"{first.pss / _MIB:.0f} to {last.pss / _MIB:.0f} MiB")
    report.timing("memory grows by less than 1 MiB a minute", figure, grown < _MOST_GROWTH)
    third = max(1, len(samples) // 3)
    for what in ("threads", "files"):
        before, after = _middle(samples[:third], what), _middle(samples[-third:], what)
        report.check(f"{what} do not grow", f"{before:g} to {after:g}", after <= before + _SLACK)


def _streams() -> list[Stream]:
    mixed = [image for size in _SIZES for image in photographs(*size)]
    return [
        Stream("single", Mix("/score", mixed), clients=3, every=0.2),
        Stream("prompted", Mix("/score-agi", mixed, prompts=True), clients=3, every=0.2),
        Stream("batch", Mix("/score-agi/batch", mixed, 6, prompts=True), clients=1, every=2.0),
        Stream("broken", Mix("/score", [image[:900] for image in mixed]), clients=1, every=1.0),
    ]


def _watch(running: Service, seconds: float) -> list[Sample]:
    begin = time.monotonic()
    samples = []
    while (now := time.monotonic() - begin) < seconds:
        pids = processes.tree(running.pid)
        samples.append(
            Sample(
                now,
                sum(map(processes.pss, pids)),
                sum(map(processes.resident, pids)),
                sum(map(processes.threads, pids)),
                sum(map(processes.open_files, pids)),
            )
        )
        time.sleep(_SAMPLE_SECONDS)
    return samples


def _middle(samples: Sequence[Sample], what: str) -> float:
    return float(statistics.median(getattr(sample, what) for sample in samples))


def _short(total: float) -> float:
    return min(total, 60.0)


_TOTAL = seconds_of(os.environ.get("SOAK") or "10m")
DRILL = Drill("soak", run, seconds=int(_TOTAL) + 240, short_seconds=240)
