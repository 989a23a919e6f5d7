"""Two real workers on one CPU, and the end of one of them under load."""

import concurrent.futures
import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from tests.app.pictures import encoded, picture
from tests.app.server import serving

pytestmark = pytest.mark.integration
CLIENTS = 8
PATIENCE = 300


def test_a_worker_that_is_killed_under_8_clients_costs_no_answer_and_no_readiness(
    tmp_path: Path,
) -> None:
    # What was at the worker waits until it is back: a machine that is busy takes its time for it,
    # and by what the other one took lately nobody is to be refused there.
    environment = {"AGIQA_DEVICE": "cpu,cpu", "AGIQA_DEADLINE_SECONDS": str(PATIENCE)}
    data = encoded(picture(300, 260), "JPEG")
    enough, stop = threading.Event(), threading.Event()
    with serving(tmp_path, environment) as service:

        def up() -> float:
            return service.metric("agiqa_worker_up", device="cpu")

        service.wait_until(lambda: up() == 2, PATIENCE)

        def client() -> list[int]:
            codes = []
            with httpx.Client(base_url=service.url, timeout=PATIENCE) as http:
                while not stop.is_set():
                    codes.append(http.post("/score", files={"image": data}).status_code)
                    if len(codes) == 3:
                        enough.set()
            return codes

        def probe() -> list[int]:
            codes = []
            with httpx.Client(base_url=service.url, timeout=PATIENCE) as http:
                while not stop.wait(0.05):
                    codes.append(http.get("/readyz").status_code)
            return codes

        with concurrent.futures.ThreadPoolExecutor(CLIENTS + 1) as pool:
            clients = [pool.submit(client) for _ in range(CLIENTS)]
            readiness = pool.submit(probe)
            try:
                assert enough.wait(60)
                os.kill(service.worker_pids[0], signal.SIGKILL)
                service.wait_until(lambda: up() == 1)
                service.wait_until(lambda: up() == 2, PATIENCE)
            finally:
                stop.set()
        assert {code for each in clients for code in each.result()} == {200}
        assert set(readiness.result()) == {200}
        assert service.metric("agiqa_worker_restarts_total", reason="killed") == 1
