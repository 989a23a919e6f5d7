"""Clients that are slow, never end, send too much or nothing at all: bounded bytes, closed in time,
and others are served meanwhile.
"""

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.drills import probes, processes, raw, traffic
from benchmarks.drills.frame import Drill, Report
from benchmarks.drills.service import Service, service

_MIB = 2**20
_HEADER_SECONDS = 3.0
_BODY_SECONDS = 6.0
_DRAIN_SECONDS = 5.0
_SLACK = 5.0  # of a machine with other work to do
_ENVIRONMENT = {
    "AGIQA_HEADER_SECONDS": str(_HEADER_SECONDS),
    "AGIQA_BODY_SECONDS": str(_BODY_SECONDS),
    "AGIQA_DRAIN_SECONDS": str(_DRAIN_SECONDS),
    "AGIQA_MAX_BODIES_MIB": "256",
}
_IDLE = 5000
_IDLE_SHORT = 500
_STALLED = 16
_PER_KIND = 8
# Over idle: the bodies that may be held, once more for their copies, and what is in the sockets.
_MOST_OVER_IDLE = 768 * _MIB
_CAP = 2048 * _MIB
_PART = b"x" * 65536


@dataclass(frozen=True)
class _Kind:
    """What such a client sends first, and then again and again."""

    name: str
    first: bytes
    again: bytes
    pause: float
    seconds: float  # until it must have been closed


def _kinds() -> list[_Kind]:
    start = b"POST /score HTTP/1.1\r\nHost: localhost\r\n"
    stalled = raw.head("POST", "/score", 20 * _MIB) + raw.form(b"x" * 1000)[:-20]
    chunked = start + b"Content-Type: multipart/form-data; boundary=drill\r\n"
    chunked += b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(_PART), _PART)
    opening = raw.form(b"")[:-13]
    chunked += b"%x\r\n%b\r\n" % (len(opening), opening)
    return [
        _Kind("headers that trickle", start, b"a: b\r\n", 0.5, _HEADER_SECONDS),
        _Kind("a header without an end", start + b"a: ", _PART, 0.0, _HEADER_SECONDS),
        _Kind("headers without an end", start, b"a: b\r\n" * 1000, 0.0, _HEADER_SECONDS),
        _Kind("a body that trickles", stalled, b"x", 0.5, _BODY_SECONDS),
        _Kind("a body without an end", chunked, chunk, 0.0, _BODY_SECONDS),
    ]


def run(report: Report) -> None:
    with service(report.folder, _ENVIRONMENT) as running:
        subjects = traffic.learn(running.url, traffic.uploads())
        idle = processes.tree_pss(running.pid)
        with (
            processes.MemoryWatch(running.pid, idle + _CAP) as memory,
            probes.probing(running.url) as prober,
            traffic.Traffic(running.url, subjects, clients=3, every=0.15) as real,
        ):
            for kind in _kinds():
                _endure(report, running, kind)
            _stalled_uploads(report, running)
            with _crowd(running, _IDLE_SHORT if report.short else _IDLE) as crowd:
                alive = [running.status("/livez"), running.status("/metrics")]
                report.check(
                    "probes are answered beside idle connections", alive, alive == [200] * 2
                )
                _closed(report, "idle connections", crowd, _HEADER_SECONDS)
            answers, seen = real.result(), prober.result()
        over = (memory.peak - idle) / _MIB
        report.timing("bounded memory", f"{over:.0f} MiB over idle", over * _MIB < _MOST_OVER_IDLE)
        report.timing("/livez within 100 ms", seen, seen.excess < 0.1)
        report.check("the service's memory stayed under the cap", memory.capped, not memory.capped)
        refused = [a for a in answers if a.status != 200 and a.status not in traffic.HONEST]
        report.check("others are unharmed", traffic.statuses(answers), not refused)
        wrong = traffic.wrong(answers)
        report.check("no wrong score", f"{wrong} of {len(answers)}", not wrong)
        held = running.settles("agiqa_body_bytes_in_flight", 0.0)
        report.check("no bytes of uploads stay behind", held, held == 0.0)
        _end(report, running)


def _endure(report: Report, running: Service, kind: _Kind) -> None:
    """Some such clients one after another would take too long: all send in turn."""
    clients = [raw.connect(running.url) for _ in range(_PER_KIND)]
    start = time.monotonic()
    left, sent = set(clients), 0
    for client in clients:
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.sendall(kind.first)
    while left and time.monotonic() - start < kind.seconds + _SLACK:
        for client in list(left):
            try:
                sent += client.send(kind.again)
            except TimeoutError:
                pass  # nobody reads it, so its memory is the kernel's
            except OSError:
                left.discard(client)
        time.sleep(kind.pause)
    seconds = time.monotonic() - start
    for client in clients:
        client.close()
    figure = (
        f"{_PER_KIND - len(left)} of {_PER_KIND} in {seconds:.1f} s, {sent / _MIB:.1f} MiB sent"
    )
    report.check(f"{kind.name}: closed in time", figure, not left)


def _stalled_uploads(report: Report, running: Service) -> None:
    """More than the service may hold: those for which there is no room are refused at once."""
    request = raw.head("POST", "/score/batch", 120 * _MIB) + raw.form(b"x" * 1000, "images")[:-20]
    clients = []
    for _ in range(_STALLED):
        client = raw.connect(running.url)
        client.sendall(request)
        clients.append(client)
    held = running.metric("agiqa_body_bytes_in_flight") or 0.0
    report.check("bytes of uploads in flight are bounded", held, 0 < held <= 257 * _MIB)
    statuses = [_status(client, _BODY_SECONDS + _SLACK) for client in clients]
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    report.check("stalled uploads are answered", counts, set(counts) == {408, 429})


def _status(client: socket.socket, seconds: float) -> int:
    client.settimeout(seconds)
    with contextlib.suppress(OSError, IndexError, ValueError), client:
        return int(client.recv(64).split()[1])
    return 0


@contextlib.contextmanager
def _crowd(running: Service, count: int) -> Iterator[list[socket.socket]]:
    """Connections that send nothing; those that the service turns away at once count too."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            with contextlib.suppress(ConnectionError):
                opened.append(raw.connect(running.url))
            if len(opened) % 50 == 0:
                time.sleep(0.02)  # they are idle, and no flood of new ones
        yield opened
    finally:
        for each in opened:
            each.close()


def _closed(report: Report, what: str, clients: list[socket.socket], seconds: float) -> None:
    end = time.monotonic() + seconds + _SLACK
    open_ = 0
    for client in clients:
        client.settimeout(max(0.001, end - time.monotonic()))
        try:
            client.recv(1)
        except TimeoutError:
            open_ += 1
        except OSError:
            pass  # a reset
    report.check(f"{what}: closed in time", f"{open_} of {len(clients)} are open", not open_)


def _end(report: Report, running: Service) -> None:
    """SIGTERM beside clients that never end."""
    request = raw.head("POST", "/score", 20 * _MIB) + raw.form(b"x" * 1000)[:-20]
    with contextlib.ExitStack() as stack:
        for first in (b"", b"GET /", request):
            stack.enter_context(raw.connect(running.url)).sendall(first)
        start = time.monotonic()
        running.running.process.send_signal(signal.SIGTERM)
        limit = _DRAIN_SECONDS + 5
        gone = processes.wait_for(
            lambda: running.running.process.poll() is not None, limit + _SLACK
        )
        figure = f"{time.monotonic() - start:.1f} s of {limit:.0f}"
        report.check("SIGTERM ends it", figure, gone is not None)
        report.timing("SIGTERM ends it within its time", figure, gone is not None and gone <= limit)


DRILL = Drill("slow", run, seconds=180, short_seconds=120)
