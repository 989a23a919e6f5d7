"""How late ``/livez`` answers, beside how late a bare server answers on the same busy cores.

The machine's other work delays both; what only the service takes longer is its own.
"""

import contextlib
import http.client
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from urllib.parse import urlsplit

from benchmarks.drills.aside import Aside
from tests.app.server import free_port

_PAUSE = 0.02
_TIMEOUT = 10.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(frozen=True)
class Probes:
    """Worst seconds of each, and how many probes there were."""

    livez: float
    bare: float
    count: int
    failed: int

    @property
    def excess(self) -> float:
        """What the service took longer than the bare server at its worst."""
        return max(0.0, self.livez - self.bare)

    def __str__(self) -> str:
        failed = f", {self.failed} without an answer" if self.failed else ""
        return (
            f"worst {1e3 * self.livez:.0f} ms, a bare server beside it {1e3 * self.bare:.0f} ms "
            f"({self.count} probes{failed})"
        )


@contextmanager
def probing(url: str) -> Iterator[Aside[Probes]]:
    """Probes until ``result`` is called."""
    port = free_port()
    with Aside(_bare_server, port), Aside(_probe, url, port) as prober:
        yield prober


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.recv(4096)
            self.wfile.write(_ANSWER)


def _bare_server(stop: Event, port: int) -> None:
    socketserver.TCPServer.allow_reuse_address = True
    with socketserver.TCPServer(("127.0.0.1", port), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stop.wait()
        server.shutdown()


def _probe(stop: Event, url: str, port: int) -> Probes:
    address = urlsplit(url)
    times: dict[str, list[float]] = {"livez": [], "bare": []}
    failed: list[float] = []

    def go_on(kind: str, host: str, port: int) -> None:
        while not stop.wait(_PAUSE):
            seconds, answered = _once(host, port)
            times[kind].append(seconds)
            if not answered and kind == "livez":
                failed.append(seconds)

    places = (("livez", address.hostname or "", address.port or 80), ("bare", "127.0.0.1", port))
    threads = [threading.Thread(target=go_on, args=place) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worst = {kind: max(seconds, default=0.0) for kind, seconds in times.items()}
    return Probes(worst["livez"], worst["bare"], len(times["livez"]), len(failed))


def _once(host: str, port: int) -> tuple[float, bool]:
    start = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/livez")
        answered = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        answered = False
    finally:
        connection.close()
    return time.monotonic() - start, answered
