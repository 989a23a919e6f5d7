"""The load, as a process of its own: a lone client, then several that each send one request after
another.

    python -m benchmarks.peers.clients URL FOLDER --pid PID [--form] [--clients 16] [--count 300]
"""

import argparse
import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.drills import raw
from benchmarks.drills.processes import cpu_seconds, tree

# Images that the lone client sends at most, and those before them that don't count.
LONE, _FIRST = 30, 3
_TIMEOUT = 120.0


@dataclass(frozen=True)
class Seen:
    """What the clients saw of a server.

    Attributes:
        rate: images per second while all clients were at it.
        cpu: seconds of a core per image, of all its processes.
        times: seconds of each of these requests.
        lone: seconds of each request of the lone client.
        qualities: what that one was answered, in the order of the files.
    """

    rate: float
    cpu: float
    times: list[float]
    lone: list[float]
    qualities: list[float]


class Client:
    """One connection, which is kept."""

    def __init__(self, url: str, *, form: bool) -> None:
        address = urlsplit(url)
        self._form, self._path = form, address.path
        self._http = http.client.HTTPConnection(address.netloc, timeout=_TIMEOUT)

    def score(self, image: bytes) -> float:
        """The quality that the server answers.

        Raises:
            RuntimeError: the answer is none.
            OSError, http.client.HTTPException: there is no answer.
        """
        body = raw.form(image) if self._form else image
        kind = raw.FORM if self._form else "image/jpeg"
        self._http.request("POST", self._path, body, {"Content-Type": kind})
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"it answers {answer.status}: {data[:200]!r}")
        return float(json.loads(data)["quality"])

    def close(self) -> None:
        self._http.close()


@dataclass
class Window:
    """Counts what comes after the first answers and before the last: neither a server that warms up
    nor clients that have nothing left to send.
    """

    pid: int
    before: int
    count: int
    times: list[float] = field(default_factory=list)
    marks: list[tuple[float, float]] = field(default_factory=list)  # the time, and the CPU's
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_over(self) -> bool:
        return self._seen >= self.before + self.count

    def add(self, seconds: float) -> None:
        """An answer that took so long."""
        with self._lock:
            self._seen += 1
            if self.before < self._seen <= self.before + self.count:
                self.times.append(seconds)
            if self._seen in {self.before, self.before + self.count}:
                self.marks.append((time.perf_counter(), used(self.pid)))


def used(pid: int) -> float:
    """Seconds of a core that the process and all below it have used."""
    return sum(map(cpu_seconds, tree(pid)))


def saturate(
    url: str, images: Sequence[bytes], window: Window, clients: int, *, form: bool
) -> tuple[float, float]:
    """Images per second, and seconds of a core for each."""
    coming: Iterator[bytes] = itertools.cycle(images)
    lock = threading.Lock()

    def work() -> None:
        with closing(Client(url, form=form)) as client:
            while not window.is_over:
                with lock:
                    image = next(coming)
                start = time.perf_counter()
                client.score(image)
                window.add(time.perf_counter() - start)

    with ThreadPoolExecutor(clients) as pool:
        for job in [pool.submit(work) for _ in range(clients)]:
            job.result()
    (start, before), (end, after) = window.marks
    return window.count / (end - start), (after - before) / window.count


def alone(url: str, images: Sequence[bytes], *, form: bool) -> tuple[list[float], list[float]]:
    """Seconds, and the quality, of each of the first images, one after another."""
    times, found = [], []
    with closing(Client(url, form=form)) as client:
        for image in images[:_FIRST]:
            client.score(image)
        for image in images[:LONE]:
            start = time.perf_counter()
            found.append(client.score(image))
            times.append(time.perf_counter() - start)
    return times, found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints ``Seen`` as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pid", type=int, required=True, help="of the server")
    parser.add_argument("--form", action="store_true", help="uploads as multipart/form-data")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args(arguments)
    images = [file.read_bytes() for file in sorted(options.folder.iterdir())]
    lone, found = alone(options.url, images, form=options.form)
    window = Window(options.pid, before=2 * options.clients, count=options.count)
    rate, cpu = saturate(options.url, images, window, options.clients, form=options.form)
    print(json.dumps(asdict(Seen(rate, cpu, window.times, lone, found))))


if __name__ == "__main__":
    main()
