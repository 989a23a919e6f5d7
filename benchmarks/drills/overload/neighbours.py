"""A batch call, and a flood of work that can wait, beside single requests, which must not feel it;
and the largest batch call that the documented ceilings are to hold.
"""

import math

from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.load import judge
from benchmarks.drills.load.figures import Figures
from benchmarks.drills.load.generator import Sent, Stream
from benchmarks.drills.load.loads import closed, environment, load
from benchmarks.drills.load.mix import Mix, photographs, small
from benchmarks.drills.service import Service, service

_IMAGES = 64
# Of the capacity: what the single requests are, so that the batch call has what it needs.
_SINGLES = 0.3
_BULK = 3.0
_SERVED = 0.95
# AGIQA_MAX_BATCH_SECONDS: what the device may be at when a single request comes.
_BATCH_SECONDS = 0.25
_SIDE = 1024
# Until its answer is waited for no longer, with what the generator waits in any case.
_LARGEST_SECONDS = 60.0


def run(report: Report) -> None:
    seconds = 4.0 if report.short else 20.0
    with service(report.folder, environment(short=report.short)) as running:
        capacity = closed(running.url, small(), seconds / 2).figures.goodput
        report.check("the capacity", f"{capacity:.1f} images/s", capacity > 0)
        if capacity > 0:
            _beside_a_batch(report, running, _SINGLES * capacity, seconds)
            if not report.short:
                _beside_bulk(report, running, capacity, seconds)
        _largest(report, running)


def _beside_a_batch(report: Report, running: Service, rate: float, seconds: float) -> None:
    singles = Stream("singles", small(), rate)
    batches = Stream("batch", Mix("/score/batch", photographs(), _IMAGES), clients=1)
    alone = Figures.of(load(running.url, [singles], seconds), "singles")
    sent = load(running.url, [singles, batches], seconds)
    beside = Figures.of(sent, "singles")
    judge.answers(report, "singles", sent, beside)
    refused = len(beside.refused)
    report.check("singles: no 429 beside a batch call", beside.statuses(), not refused)
    limit = alone.quantile(0.99) + _BATCH_SECONDS
    p99 = beside.quantile(0.99)
    figure = f"{p99:.2f} s, alone {alone.quantile(0.99):.2f} s"
    report.timing("singles: p99 as without it + one batch", figure, p99 <= limit)
    _judge_batches(report, sent)


def _beside_bulk(report: Report, running: Service, capacity: float, seconds: float) -> None:
    """More single requests than can be served call themselves work that can wait."""
    bulk = Mix("/score", photographs(), headers={"X-Priority": "bulk"})
    streams = [
        Stream("bulk", bulk, _BULK * capacity),
        Stream("interactive", small(), _SINGLES * capacity),
    ]
    sent = load(running.url, streams, seconds)
    for stream in streams:
        judge.answers(report, stream.name, sent, Figures.of(sent, stream.name))
    figures = Figures.of(sent, "interactive")
    share = len(figures.served) / max(1, len(figures.exchanges))
    promise = f"interactive: served beside {_BULK:g}x the capacity of bulk"
    report.timing(promise, f"{share:.0%}; {figures}", share >= _SERVED)


def _judge_batches(report: Report, sent: Sent) -> None:
    figures = Figures.of(sent, "batch", deadline=math.inf)
    scores = sum(e.scores for e in figures.exchanges)
    images = sum(e.images for e in figures.exchanges)
    figure = f"{scores} of {images} images; {figures.statuses()}"
    report.timing("batch calls: every image gets its score", figure, 0 < scores == images)


def _largest(report: Report, running: Service) -> None:
    """Large images with prompts in one call. Shared memory holds half of their crops at a time."""
    mix = Mix("/score-agi/batch", photographs(_SIDE, _SIDE), _IMAGES, prompts=True)
    name = f"{_IMAGES} images of {_SIDE} x {_SIDE} with prompts"
    sent = load(running.url, [Stream("largest", mix, clients=1, count=1)], _LARGEST_SECONDS)
    figures = Figures.of(sent, "largest")
    (exchange,) = figures.exchanges
    figure = f"{figures.statuses()}; {exchange.scores} scores in {exchange.seconds:.1f} s"
    report.check(f"{name}: the call is admitted", figure, exchange.status == 200)
    report.timing(f"{name}: all are served", figure, exchange.scores == _IMAGES)


DRILL = Drill("neighbours", run, seconds=240, short_seconds=120)
