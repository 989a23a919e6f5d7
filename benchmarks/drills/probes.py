"""How late ``/livez`` and other paths answer, beside how late a bare server does on the same busy
cores.

The machine's other work delays both; what only the service takes longer is its own, less the time
that its process waited for a core: it has work to do, and a bare server has none.
"""

import contextlib
import http.client
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from urllib.parse import urlsplit

from benchmarks.drills import processes
from benchmarks.drills.aside import Aside
from tests.app.server import free_port

_PAUSE = 0.02
_TIMEOUT = 10.0
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(frozen=True)
class Probes:
    """Worst seconds of the service, the same without what its process waited for a core meanwhile,
    those of the bare server, how many probes there were, and the ``share`` of one core that asking
    took.
    """

    livez: float
    own: float
    bare: float
    count: int
    failed: int
    share: float = 0.0

    @property
    def excess(self) -> float:
        """What the service took longer at its worst than the machine's other work explains."""
        return max(0.0, min(self.own, self.livez - self.bare))

    def __str__(self) -> str:
        failed = f", {self.failed} without an answer" if self.failed else ""
        return (
            f"worst {1e3 * self.livez:.0f} ms, "
            f"{1e3 * self.own:.0f} ms without the wait for a core, "
            f"a bare server beside it {1e3 * self.bare:.0f} ms ({self.count} probes{failed})"
        )


@contextmanager
def probing(
    url: str, paths: Sequence[str] = ("/livez",), pause: float = _PAUSE
) -> Iterator[Aside[Probes]]:
    """Probes until ``result`` is called, each path after a pause."""
    port = free_port()
    with Aside(_bare_server, port), Aside(_probe, url, port, tuple(paths), pause) as prober:
        yield prober


@dataclass(frozen=True)
class _Probe:
    seconds: float
    own: float
    answered: bool


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


def _probe(stop: Event, url: str, port: int, paths: Sequence[str], pause: float) -> Probes:
    address = urlsplit(url)
    service, bare = list[_Probe](), list[_Probe]()
    pid = processes.listener(address.port or 80)
    begin, used = time.monotonic(), time.process_time()

    def go_on(found: list[_Probe], host: str, port: int, path: str) -> None:
        while not stop.wait(pause):
            waited = processes.waited_for_a_core(pid)
            seconds, answered = _once(host, port, path)
            waited = processes.waited_for_a_core(pid) - waited
            found.append(_Probe(seconds, max(0.0, seconds - waited), answered))

    places = [(service, address.hostname or "", address.port or 80, path) for path in paths]
    places.append((bare, "127.0.0.1", port, "/"))
    threads = [threading.Thread(target=go_on, args=place) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Probes(
        livez=max((each.seconds for each in service), default=0.0),
        own=max((each.own for each in service), default=0.0),
        bare=max((each.seconds for each in bare), default=0.0),
        count=len(service),
        failed=sum(not each.answered for each in service),
        share=(time.process_time() - used) / (time.monotonic() - begin),
    )


def _once(host: str, port: int, path: str) -> tuple[float, bool]:
    start = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        answered = answer.status == 200
    except (OSError, http.client.HTTPException):
        answered = False
    finally:
        connection.close()
    return time.monotonic() - start, answered
