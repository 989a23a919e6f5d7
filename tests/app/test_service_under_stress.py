"""Load, cancellation, a dying worker and shutdown, with real processes and real signals."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.app.pictures import encoded, picture
from tests.app.server import Running, serving

pytestmark = pytest.mark.integration
# Of a worker that hung: the one thing in the log that is no JSON.
STACKS = re.compile(r"(Current thread|Thread) 0x|  File |$")


def post(service: Running, name: str = "a.jpg", **headers: str) -> httpx.Response:
    data = encoded(picture(512, 512), "JPEG")
    with httpx.Client(base_url=service.url, timeout=60) as client:
        return client.post("/score", files={"image": (name, data)}, headers=headers)


@pytest.fixture
def pool() -> "concurrent.futures.ThreadPoolExecutor":
    return concurrent.futures.ThreadPoolExecutor(64)


def held(service: Running) -> int:
    """Stops the worker, as a device that takes for ever would; returns its pid."""
    (pid,) = service.worker_pids
    os.kill(pid, signal.SIGSTOP)
    return pid


def listens(service: Running) -> bool:
    """Whether the service takes new connections."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) == 0


def test_64_parallel_uploads_share_batches(
    service: Running, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    batches = service.metric("agiqa_batch_crops_count")
    images = service.metric("agiqa_batch_requests_sum")
    data = encoded(picture(224, 224), "JPEG")

    def small() -> httpx.Response:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            return client.post("/score", files={"image": data})

    answers = [f.result() for f in [pool.submit(small) for _ in range(64)]]
    codes = {answer.status_code for answer in answers}
    assert codes <= {200, 429, 504}
    good = [answer.json()["quality"] for answer in answers if answer.status_code == 200]
    assert good
    assert max(good) - min(good) < 1e-4
    batches = service.metric("agiqa_batch_crops_count") - batches
    images = service.metric("agiqa_batch_requests_sum") - images
    assert images >= 1.5 * batches
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1


def test_the_service_hears_of_a_client_that_goes_away_while_it_waits(service: Running) -> None:
    gone = service.metric("agiqa_request_failures_total", reason="client_gone")
    body = encoded(picture(512, 512), "JPEG")
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    form = head + body + b"\r\n--x--\r\n"
    host, port = service.url.removeprefix("http://").split(":")
    pid = held(service)
    try:
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
                b"boundary=x\r\nContent-Length: %d\r\n\r\n" % len(form) + form
            )
            # the request and the scrape itself
            service.wait_until(lambda: service.metric("agiqa_requests_in_flight") == 2)
        service.wait_until(
            lambda: service.metric("agiqa_request_failures_total", reason="client_gone") == gone + 1
        )
        assert service.metric("agiqa_requests_in_flight") == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert post(service).status_code == 200


def test_a_client_that_hangs_up_while_it_sends_sent_no_bad_form(service: Running) -> None:
    def failures(reason: str) -> float:
        return service.metric("agiqa_request_failures_total", reason=reason)

    gone, bad = failures("client_gone"), failures("bad_field")
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; "
            b"boundary=x\r\nContent-Length: 5000\r\n\r\n--x\r\nContent-Disposition: form-data; "
            b'name="image"; filename="a"\r\n\r\nthe first bytes'
        )
    service.wait_until(lambda: failures("client_gone") + failures("bad_field") > gone + bad)
    assert (failures("client_gone"), failures("bad_field")) == (gone + 1, bad)


def test_a_killed_worker_is_replaced_and_its_requests_are_retried(
    service: Running, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    restarts = service.metric("agiqa_worker_restarts_total", reason="killed")
    batches = service.metric("agiqa_batch_crops_count")
    pid = held(service)
    waiting = pool.submit(post, service, **{"X-Request-Timeout": "10"})
    service.wait_until(lambda: service.metric("agiqa_batch_crops_count") > batches)
    os.kill(pid, signal.SIGKILL)
    service.wait_until(lambda: service.client.get("/readyz").status_code == 503)
    down = service.client.get("/readyz").json()
    assert down["code"] == "worker_down"
    assert service.client.get("/livez").status_code == 200
    assert post(service).json()["code"] == "worker_down"
    assert waiting.result().status_code in {200, 504}  # 504 where torch takes over 10 s to import
    service.wait_until_ready()
    assert service.metric("agiqa_worker_restarts_total", reason="killed") == restarts + 1
    assert service.worker_pids != [pid]
    assert post(service).status_code == 200


def test_a_stopped_worker_is_replaced_and_the_log_names_what_it_was_at(
    service: Running, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    restarts = service.metric("agiqa_worker_restarts_total", reason="hang")
    pid = held(service)
    waiting = pool.submit(post, service, **{"X-Request-ID": "at-the-hanging-worker"})
    service.wait_until(lambda: service.client.get("/readyz").status_code == 503)
    assert service.client.get("/livez").status_code == 200
    assert waiting.result().status_code in {200, 504}
    service.wait_until_ready()
    assert service.metric("agiqa_worker_restarts_total", reason="hang") == restarts + 1
    assert pid not in service.worker_pids
    log = service.log.read_text().splitlines()
    lines = [json.loads(line) for line in log if line.startswith("{")]
    ends = [line for line in lines if line["message"].startswith("the worker ended")]
    assert ends[-1]["requests"] == ["at-the-hanging-worker"]
    assert (ends[-1]["reason"], ends[-1]["signal"]) == ("hang", "SIGKILL")


def test_the_api_process_maps_no_torch_and_the_worker_does(service: Running) -> None:
    def libraries(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    assert "libtorch" not in libraries(service.process.pid)
    assert any("libtorch" in libraries(pid) for pid in service.worker_pids)


def test_logs_are_json_lines_with_the_request_id(service: Running) -> None:
    post(service, **{"X-Request-ID": "look-for-me"})
    service.wait_until(lambda: "look-for-me" in service.log.read_text())
    written = [line for line in service.log.read_text().splitlines() if not STACKS.match(line)]
    lines = [json.loads(line) for line in written]
    (line,) = [line for line in lines if line.get("request_id") == "look-for-me"]
    assert line["path"] == "/score"
    assert line["status"] == 200


def test_loading_is_told_and_sigterm_drains_what_was_admitted(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False) as service:
        assert service.client.get("/readyz").json()["code"] == "loading"
        assert post(service).json()["code"] == "loading"
        assert service.client.get("/livez").status_code == 200
        service.wait_until_ready()
        pid = held(service)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post, service)
            service.wait_until(lambda: service.metric("agiqa_batch_crops_count") == 1)
            service.process.send_signal(signal.SIGTERM)
            service.wait_until(lambda: not listens(service))
            os.kill(pid, signal.SIGCONT)
            assert waiting.result().status_code == 200
        assert service.process.wait(30) == 0


def test_whoever_had_connected_before_the_signal_is_answered(tmp_path: Path) -> None:
    """The event loop takes in some connections a turn, and all of these wait for it."""
    with serving(tmp_path) as service, contextlib.ExitStack() as stack:
        host, port = service.url.removeprefix("http://").split(":")
        os.kill(service.process.pid, signal.SIGSTOP)
        clients = [socket.create_connection((host, int(port)), timeout=60) for _ in range(60)]
        for client in clients:
            stack.enter_context(client)
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.3)  # by its clock it is time to look whether the end has come
        service.process.send_signal(signal.SIGTERM)
        os.kill(service.process.pid, signal.SIGCONT)
        answers = [client.recv(4096) for client in clients]
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert service.process.wait(30) == 0


def begun_upload(service: Running) -> socket.socket:
    """A connection on which the first bytes of a body lie, and no more come."""
    host, port = service.url.removeprefix("http://").split(":")
    head = "POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    form = 'Content-Type: multipart/form-data; boundary="b"\r\n\r\n--b\r\n'
    client = socket.create_connection((host, int(port)), timeout=60)
    client.sendall((head + form).encode())
    return client


def test_what_outlasts_the_drain_is_answered_as_a_problem_though_the_worker_hangs(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, {"AGIQA_DRAIN_SECONDS": "0.5"}) as service:
        held(service)
        with concurrent.futures.ThreadPoolExecutor(1) as pool, begun_upload(service) as upload:
            waiting = pool.submit(post, service)
            service.wait_until(lambda: service.metric("agiqa_batch_crops_count") == 1)
            service.process.send_signal(signal.SIGTERM)
            answer = waiting.result()
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["connection"] == "close"
            begun = b"".join(iter(lambda: upload.recv(4096), b""))
            assert begun.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"draining"' in begun
        assert service.process.wait(30) == 0
        assert "Traceback" not in service.log.read_text()


def test_after_a_signal_the_service_is_not_ready_and_still_serves_until_a_second_one(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, {"AGIQA_DRAIN_DELAY_SECONDS": "1000"}) as service:
        service.process.send_signal(signal.SIGTERM)
        service.wait_until(lambda: service.client.get("/readyz").status_code == 503)
        assert post(service).status_code == 200
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(30) == 0


def test_a_signal_shows_the_stacks_of_the_service_that_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.process.send_signal(signal.SIGUSR1)
        service.wait_until(lambda: "Current thread" in service.log.read_text())
        assert "uvicorn" in service.log.read_text()
        assert post(service).status_code == 200


def test_a_model_that_cannot_be_loaded_ends_the_service_with_its_reason(tmp_path: Path) -> None:
    with serving(tmp_path, {"AGIQA_MODELS": "no-such-model"}, wait=False) as service:
        assert service.process.wait(60) == 1
        assert "no checkpoint 'no-such-model'" in service.log.read_text()
