"""Clients that hang up at every stage: all memory comes back, and others are unharmed."""

import concurrent.futures
import contextlib
import itertools
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.drills import raw, traffic
from benchmarks.drills.corpus.containers import progressive_jpeg
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.service import Service, service

_ROUNDS = 4
_ROUNDS_SHORT = 1
_GONERS = 6  # at a time
_RACES = 16
_RACES_SHORT = 3
_VICTIMS = 12
_DEADLINE = 0.5
# What must be back at nothing: metric -> its value when only the scrape itself is served.
_AT_REST = {
    "agiqa_arena_bytes": 0.0,
    "agiqa_queue_requests": 0.0,
    "agiqa_queue_crops": 0.0,
    "agiqa_body_bytes_in_flight": 0.0,
    "agiqa_requests_in_flight": 1.0,
}


@dataclass(frozen=True)
class _Stage:
    """Where a client hangs up: after ``part`` of its request, and ``pause`` seconds."""

    name: str
    part: float
    pause: float


_STAGES = (
    _Stage("connected", 0.0, 0.05),
    _Stage("in the headers", 0.002, 0.05),
    _Stage("in the body", 0.6, 0.05),
    _Stage("sent", 1.0, 0.0),
    _Stage("decoding", 1.0, 0.15),
    _Stage("past its deadline, decoding", 1.0, _DEADLINE + 0.05),
    _Stage("just before its deadline", 1.0, _DEADLINE - 0.03),
    _Stage("in the queue", 1.0, 0.3),
)


def run(report: Report) -> None:
    with service(report.folder) as running:
        subjects = traffic.learn(running.url, traffic.uploads())
        chance = random.Random(0)
        slow = progressive_jpeg(7056, 7056, 500)
        rounds = _ROUNDS_SHORT if report.short else _ROUNDS
        with traffic.Traffic(running.url, subjects, clients=3, every=0.15) as real:
            for stage, closing in itertools.product(_STAGES, _closings()):
                for _ in range(rounds):
                    _hang_up(running, stage, closing, [slow, chance.choice(subjects).data])
            answers = real.result()
        for number in range(_RACES_SHORT if report.short else _RACES):
            answers += _race(running, subjects, scans=150 + 50 * (number % 8))
        _judge(report, running, answers)


def _race(running: Service, subjects: list[traffic.Subject], scans: int) -> list[traffic.Answer]:
    """One client's deadline and hang-up come together while its image is being decoded; others come
    right then, and wait for the device when that decode ends.
    """
    stage = _Stage("decoding", 1.0, _DEADLINE + 0.05)
    _hang_up(running, stage, socket.socket.close, [progressive_jpeg(7056, 7056, scans)], 1)
    return traffic.burst(running.url, subjects, _VICTIMS).answers()


def _closings() -> Iterator[Callable[[socket.socket], None]]:
    yield socket.socket.close
    yield raw.reset
    yield _half_closed


def _half_closed(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    connection.close()


def _hang_up(
    running: Service,
    stage: _Stage,
    closing: Callable[[socket.socket], None],
    images: list[bytes],
    clients: int = _GONERS,
) -> None:
    """Some clients at once that all leave at that stage."""

    def one(number: int) -> None:
        image = images[number % len(images)]
        batch = number % 3 == 2
        body = raw.form(image, "images" if batch else "image", 2 if batch else 1)
        headers = {"X-Request-Timeout": str(_DEADLINE)}
        target = "/score/batch" if batch else "/score"
        request = raw.head("POST", target, len(body), headers) + body
        with contextlib.suppress(OSError):
            connection = raw.connect(running.url)
            connection.sendall(request[: int(stage.part * len(request))])
            time.sleep(stage.pause)
            closing(connection)

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(clients)))


def _judge(report: Report, running: Service, answers: list[traffic.Answer]) -> None:
    for name, value in _AT_REST.items():
        seen = running.settles(name, value)
        promise = f"{name} is {value:g} again"
        if seen is None:
            report.unknown(promise, "there is no such metric")
        else:
            report.check(promise, f"{seen:g}", seen == value)
    wrong = traffic.wrong(answers)
    report.check("no wrong score", f"{wrong} of {len(answers)}", not wrong)
    refused = [a for a in answers if a.status != 200 and a.status not in traffic.HONEST]
    report.check("others are unharmed", traffic.statuses(answers), not refused)
    alive = traffic.post(running.url, traffic.uploads(1)[0]).status
    report.check("it serves on", alive, alive == 200)


DRILL = Drill("hangups", run, seconds=180, short_seconds=60)
