"""The documented proxy, run by a real nginx in front of two instances that only answer: which of
them gets a request, and how often.
"""

import json
import math
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.batching.errors import (
    Draining,
    InferenceFailed,
    Loading,
    Overloaded,
    Quarantined,
    ServiceError,
    WorkerDown,
)
from app.http.problems import MEDIA_TYPE, problem
from benchmarks.drills.nginx import adapted

from .dockerfile import ROOT
from .test_compose import DEFAULTS

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(
    not NGINX, reason="needs the program nginx: apt-get install nginx-light"
)
CONFIG = ROOT / "docker/nginx/agiqa.conf"
TEXT = CONFIG.read_text()
MAIN = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{server}
}}
"""


class Instance(ThreadingHTTPServer):
    """Answers all requests with ``error``, or the first ``failures``, and others 200; one that
    ``dies`` closes the connection once it has read the request, one that ``hangs`` does nothing
    until it is ``released``.
    """

    daemon_threads = True

    def __init__(
        self,
        error: ServiceError | None = None,
        *,
        failures: float = math.inf,
        dies: bool = False,
        hangs: bool = False,
    ) -> None:
        self.error = error
        self.failures = failures
        self.dies = dies
        self.released = threading.Event()
        if not hangs:
            self.released.set()
        self.requests: list[tuple[str, Any, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Instance

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, self.headers, body))
        self.server.released.wait(30)
        if self.server.dies:
            self.close_connection = True
            return
        fails = len(self.server.requests) <= self.server.failures
        error = self.server.error if fails else None
        content = json.dumps(problem(error) if error else {"quality": 0.5}).encode()
        self.send_response(error.status if error else 200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", MEDIA_TYPE if error else "application/json")
        if error:
            self.send_header("Retry-After", "3")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening(instance: Instance) -> Iterator[Instance]:
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield instance
    finally:
        instance.shutdown()
        instance.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def rendered(port: int, *upstreams: int, text: str = TEXT) -> str:
    """All that a test changes of the ``text`` are addresses."""
    urls = [f"http://127.0.0.1:{upstream}" for upstream in upstreams]
    return MAIN.format(server=adapted(text, urls, port))


@contextmanager
def proxied(
    tmp_path: Path, *instances: Instance | int | None, text: str = TEXT
) -> Iterator[httpx.Client]:
    """A client of nginx in front of these instances, or ports; None: nobody listens there."""
    with ExitStack() as stack:
        for listener in {one for one in instances if isinstance(one, Instance)}:
            stack.enter_context(listening(listener))
        ports = [
            one.server_address[1] if isinstance(one, Instance) else one or free_port()
            for one in instances
        ]
        port = free_port()
        (tmp_path / "nginx.conf").write_text(rendered(port, *ports, text=text))
        command = [str(NGINX), "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf"]
        with subprocess.Popen(command, cwd=tmp_path) as process:
            try:
                _wait_for(port, process)
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                    yield client
            finally:
                process.terminate()


@contextmanager
def unanswered() -> Iterator[int]:
    """A port where nobody answers connections, as at a host that is gone: the queue of those that
    wait to be accepted is full.
    """
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(full.getsockname()) == 0:
                pytest.skip("this kernel takes connections that nobody accepts")
        port: int = full.getsockname()[1]
        yield port


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("nginx does not listen")


def post(client: httpx.Client, path: str = "/score", **headers: str) -> httpx.Response:
    return client.post(path, files={"image": b"pixels" * 50_000}, headers=headers)


@needs_nginx
def test_nginx_accepts_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(rendered(8080, 8001, 8002))
    command = [str(NGINX), "-t", "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@needs_nginx
@pytest.mark.parametrize(
    "error",
    [Quarantined(), Overloaded(), InferenceFailed()],
    ids=["quarantined", "busy", "failed"],
)
def test_a_suspect_of_crashes_and_what_another_can_do_no_better_reach_one_instance_only(
    tmp_path: Path, error: ServiceError
) -> None:
    instances = [Instance(error), Instance(error)]
    with proxied(tmp_path, *instances) as client:
        for sent in (1, 2, 3):
            assert post(client).status_code == error.status
            assert sum(len(one.requests) for one in instances) == sent


@needs_nginx
def test_what_an_instance_had_when_it_died_another_one_computes(tmp_path: Path) -> None:
    dying, other = Instance(dies=True), Instance()
    with proxied(tmp_path, dying, other) as client:
        assert [post(client).status_code for _ in range(6)] == [200] * 6
    assert dying.requests
    assert len(other.requests) == 6
    assert all(body.count(b"pixels") == 50_000 for _, _, body in other.requests)


@needs_nginx
def test_what_ends_whole_instances_ends_no_more_than_three(tmp_path: Path) -> None:
    instances = [Instance(dies=True) for _ in range(5)]
    with proxied(tmp_path, *instances) as client:
        assert post(client).status_code == 502
    assert sum(len(one.requests) for one in instances) == 3


@needs_nginx
def test_an_instance_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    other = Instance()
    with proxied(tmp_path, None, other) as client:
        assert [post(client).status_code for _ in range(6)] == [200] * 6
    assert len(other.requests) == 6


@needs_nginx
def test_a_host_that_answers_no_connection_is_passed_over(tmp_path: Path) -> None:
    other = Instance()
    with unanswered() as port, proxied(tmp_path, port, other) as client:
        assert [post(client).status_code for _ in range(2)] == [200] * 2
    assert len(other.requests) == 2


@needs_nginx
def test_what_takes_one_instance_too_long_goes_to_no_other(tmp_path: Path) -> None:
    # As shipped, with seconds for minutes.
    quick = TEXT.replace("proxy_read_timeout 120s", "proxy_read_timeout 1200ms")
    quick = quick.replace("proxy_next_upstream_timeout 110s", "proxy_next_upstream_timeout 1100ms")
    assert quick.count("00ms") == 2
    instances = [Instance(hangs=True), Instance(hangs=True)]
    with proxied(tmp_path, *instances, text=quick) as client:
        assert post(client).status_code == 504
        for one in instances:
            one.released.set()
    assert sum(len(one.requests) for one in instances) == 1


@needs_nginx
@pytest.mark.parametrize(
    "error", [Draining(), Loading(), WorkerDown()], ids=["draining", "loading", "worker down"]
)
def test_what_an_instance_can_not_do_now_another_one_computes_once(
    tmp_path: Path, error: ServiceError
) -> None:
    refusing, other = Instance(error), Instance()
    with proxied(tmp_path, refusing, other) as client:
        assert [post(client).status_code for _ in range(6)] == [200] * 6
    assert refusing.requests
    assert len(other.requests) == 6
    assert len({body for _, _, body in other.requests}) == 6  # whole, each with its boundary
    assert all(body.count(b"pixels") == 50_000 for _, _, body in other.requests)


@needs_nginx
def test_where_all_refuse_the_client_gets_their_answer(tmp_path: Path) -> None:
    instances = [Instance(Draining()), Instance(Draining())]
    with proxied(tmp_path, *instances) as client:
        for _ in range(3):
            answer = post(client)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
            assert answer.json()["code"] == "draining"
    assert sum(len(one.requests) for one in instances) <= 9


@needs_nginx
def test_in_front_of_ray_serve_its_proxy_is_tried_again_after_a_500(tmp_path: Path) -> None:
    # As docs/operations.md says of replicas of Ray Serve that die, whose proxy answers 500.
    for_serve = TEXT.replace("timeout http_503 non", "timeout http_500 http_503 non")
    assert for_serve != TEXT
    proxy = Instance(InferenceFailed(), failures=1)
    with proxied(tmp_path, proxy, proxy, text=for_serve) as client:
        assert post(client).status_code == 200
    assert len(proxy.requests) == 2


@needs_nginx
def test_two_instances_may_be_away_at_a_time(tmp_path: Path) -> None:
    draining, other = Instance(Draining()), Instance()
    with proxied(tmp_path, draining, None, other) as client:
        assert [post(client).status_code for _ in range(6)] == [200] * 6
    assert len(other.requests) == 6


@needs_nginx
def test_path_and_ids_arrive_as_they_were_sent_and_metrics_stay_inside(tmp_path: Path) -> None:
    instances = [Instance(), Instance()]
    with proxied(tmp_path, *instances) as client:
        post(client, "/score%0A", **{"X-Request-ID": "mine", "X-Forwarded-For": "made up"})
        post(client, "/score?model=a%20b")
        assert client.get("/metrics").status_code == 404
    (odd, first, _), (plain, second, _) = sorted(
        (request for one in instances for request in one.requests), key=lambda r: r[0]
    )
    assert (odd, plain) == ("/score%0A", "/score?model=a%20b")
    assert (first["X-Request-ID"], first["X-Forwarded-For"]) == ("mine", "127.0.0.1")
    assert re.fullmatch("[0-9a-f]{32}", second["X-Request-ID"])


def test_the_proxy_lets_through_what_the_service_takes() -> None:
    size = re.search(r"client_max_body_size (\d+)m;", TEXT)
    timeout = re.search(r"proxy_read_timeout (\d+)s;", TEXT)
    assert size is not None
    assert timeout is not None
    assert int(size[1]) > DEFAULTS["max_body_mib"]
    assert int(timeout[1]) > DEFAULTS["deadline_seconds"]
    passed_on = re.search(r"proxy_next_upstream_timeout (\d+)s;", TEXT)
    assert passed_on is not None
    assert int(passed_on[1]) < int(timeout[1])
