"""Two real services behind the shipped nginx, which loses nothing when one of them is killed or
both are restarted in turn.
"""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.drills import nginx
from tests.app.pictures import encoded
from tests.app.server import Running, free_port, serving

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(bool(nginx.missing()), reason=nginx.missing()),
]
CLIENTS = 8
# The machine may be slow, which is not the matter here: eight images, or a worker that stands
# still, would have to take longer than our clients wait before one is refused (429).
PATIENT = {"AGIQA_DEADLINE_SECONDS": "1000", "AGIQA_DECODE_WORKERS": "1"}
# Noise, which no format makes smaller.
IMAGE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)))


class Clients:
    """Each sends the image again and again, until all are stopped or have sent so many together."""

    def __init__(self, url: str, most: int | None = None) -> None:
        self.statuses: Counter[int | str] = Counter()
        self._url = url
        self._most = most
        self._sent = 0
        self._news = threading.Condition()
        self._is_stopped = False
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, more: int) -> None:
        """Returns when so many more have been answered."""
        with self._news:
            count = self.statuses.total() + more
            assert self._news.wait_for(lambda: self.statuses.total() >= count, 120), self.statuses

    def join(self) -> None:
        """Returns when all that there is to send has been answered."""
        for thread in self._threads:
            thread.join(240)
        assert not any(thread.is_alive() for thread in self._threads), self.statuses

    def stop(self) -> None:
        """Has each send what it is sending, and no more."""
        with self._news:
            self._is_stopped = True
        self.join()

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120, trust_env=False) as client:
            while self._may_send():
                status: int | str
                try:
                    answer = client.post("/score", files={"image": IMAGE})
                    status = 200 if answer.status_code == 200 else f"{answer!r} {answer.text}"
                except httpx.TransportError as error:
                    status = repr(error)
                with self._news:
                    self.statuses[status] += 1
                    self._news.notify_all()

    def _may_send(self) -> bool:
        with self._news:
            if self._is_stopped or self._sent == self._most:
                return False
            self._sent += 1
            return True


@contextmanager
def behind_nginx(folder: Path) -> Iterator[tuple[str, list[ExitStack], list[Running], list[int]]]:
    """Two services behind nginx: its address, and of each what ends it, itself, its port."""
    ports = [free_port() for _ in range(2)]
    with ExitStack() as whole:
        stacks = [whole.enter_context(ExitStack()) for _ in ports]
        services = [
            stack.enter_context(started(folder, port, wait=False))
            for stack, port in zip(stacks, ports, strict=True)
        ]
        for service in services:
            service.wait_until_ready()
        url = whole.enter_context(nginx.before([one.url for one in services], folder / "nginx"))
        yield url, stacks, services, ports


@contextmanager
def started(folder: Path, port: int, *, wait: bool = True) -> Iterator[Running]:
    own = folder / str(port)
    own.mkdir(exist_ok=True)
    with serving(own, PATIENT, wait=wait, port=port) as running:
        yield running


def answered(service: Running) -> float:
    return service.metric("agiqa_requests_total", endpoint="/score", code="200")


def test_the_image_has_the_size_of_a_photograph_for_the_web() -> None:
    assert 300_000 < len(IMAGE) < 320_000


def test_a_killed_service_loses_none_of_the_requests_that_the_front_accepted(
    tmp_path: Path,
) -> None:
    with behind_nginx(tmp_path) as (url, _, (killed, other), _), Clients(url, most=500) as clients:
        clients.wait_for(150)
        assert min(answered(killed), answered(other)) > 0
        killed.process.kill()
        clients.join()
        assert clients.statuses == {200: 500}


def test_services_that_are_restarted_in_turn_are_not_missed(tmp_path: Path) -> None:
    with behind_nginx(tmp_path) as (url, stacks, services, ports), Clients(url) as clients:
        for stack, service, port in zip(stacks, services, ports, strict=True):
            clients.wait_for(40)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(60) == 0
            stack.close()
            again = stack.enter_context(started(tmp_path, port))
            clients.wait_for(40)
            assert answered(again) > 0
        clients.stop()
        assert set(clients.statuses) == {200}
