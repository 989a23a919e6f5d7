"""The service on Ray Serve: two replicas on one cluster of this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import agiqa_client
from app.settings import Settings
from tests.app.http.test_http import (  # noqa: F401 - run against the replicas
    test_a_bad_request_says_what_to_do,
    test_a_bad_upload_gets_its_code,
    test_a_batch_answers_in_order_and_a_bad_image_spoils_nothing,
    test_an_expired_deadline_is_a_504,
    test_an_upload_over_the_limit_is_refused_while_it_streams,
    test_nothing_internal_leaks,
    test_score_agi_answers_all_heads_and_consistency_only_with_a_prompt,
    test_score_answers_as_designed,
    test_the_service_gives_the_scorer_s_own_scores,
    test_unknown_addresses_and_methods_are_problems_too,
)
from tests.app.pictures import encoded
from tests.app.server import free_port
from tests.app.sleeping import IMAGES_PER_SECOND, sleeping_app

ray = pytest.importorskip("ray", reason="needs the extra ray")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own models are of an older pydantic
    from ray import serve
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    from app.ray import BACKLOG, NAME, Scale, application, by_backlog, deployment

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(600),
]

SETTINGS = Settings(
    models=("tiny-clip-agiqa",),
    device="cpu",
    dtype="float32",
    threads=1,
    decode_workers=1,
    max_crop_mib=64,
    # A machine that is busy with other tests restarts a worker in its own time.
    deadline_seconds=120,
)
TWO = Scale(min_replicas=2, max_replicas=2)
PICTURE = encoded()
CLIENTS = 8


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a cluster's proxy."""
    port = free_port()
    # On a machine that is busy with other tests a process takes its time to start, would get none
    # of it at Ray's niceness, and be ended for what others hold of the memory.
    patience = {
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "120",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",
    }
    os.environ.update(patience)
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=2**27,
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()
    for name in patience:
        del os.environ[name]


@pytest.fixture(scope="module")
def service(url: str) -> str:
    """Two replicas of the service."""
    serve.run(deployment(SETTINGS, TWO), name=NAME)
    return url


@pytest.fixture(scope="module")
def client(service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service, timeout=120) as client:
        yield client


def parents() -> dict[int, int]:
    """Of every process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    return found


def processes(name: bytes, above: Collection[int] | None = None) -> list[int]:
    """Those below this process, or one of those ``above``, whose command line holds ``name``."""
    parent = parents()
    above = {os.getpid()} if above is None else above

    def is_below(pid: int) -> bool:
        while pid in parent and pid not in above:
            pid = parent[pid]
        return pid in above

    return [pid for pid in parent if is_below(pid) and name in command(pid)]


def workers() -> list[int]:
    """Those of the replicas; other tests of this process may have a service too."""
    return processes(b"app.worker", processes(b"ServeReplica"))


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass
class Load:
    """What clients got that ask one after another."""

    answers: list[int | str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def wait_for(self, more: int) -> None:
        """So many further answers."""
        wanted, end = len(self.answers) + more, time.monotonic() + 120
        while len(self.answers) < wanted:
            assert time.monotonic() < end, self.answers[-5:]
            time.sleep(0.01)

    @property
    def failures(self) -> list[int | str]:
        return [answer for answer in self.answers if answer != 200]


@contextmanager
def load(ask: Callable[[], int | str], clients: int = CLIENTS) -> Iterator[Load]:
    """Clients at work."""
    found = Load()

    def work() -> None:
        while not found.over.is_set():
            found.answers.append(ask())

    with ThreadPoolExecutor(clients) as pool:
        at_work = [pool.submit(work) for _ in range(clients)]
        try:
            found.wait_for(clients)
            yield found
        finally:
            found.over.set()
        for one in at_work:
            one.result()


def post(url: str) -> int | str:
    """One image on a connection of its own."""
    try:
        return httpx.post(f"{url}/score", files={"image": PICTURE}, timeout=120).status_code
    except httpx.TransportError as error:
        return repr(error)


# The policy


def context(current: int, **backlogs: float) -> Any:
    metrics = {BACKLOG: backlogs} if backlogs else {}
    return SimpleNamespace(
        current_num_replicas=current, target_num_replicas=current, aggregated_metrics=metrics
    )


@pytest.mark.parametrize(
    ("current", "backlogs", "wanted"),
    [
        (1, {"a": 0.2}, 1),
        (1, {"a": 2.5}, 3),
        (2, {"a": 0.0, "b": 0.0}, 1),
        (2, {"a": 1.0, "b": 1.0}, 2),
        (8, {"a": 0.0, "b": 0.1}, 7),  # those that are left take the load of one that ends
        (3, {"a": 2.0, "b": 4.0}, 9),  # one is new, and has not reported yet
        (4, {}, 4),
    ],
)
def test_as_many_replicas_are_wanted_as_share_the_backlog_at_a_second_each(
    current: int, backlogs: dict[str, float], wanted: int
) -> None:
    assert by_backlog(context(current, **backlogs)) == (wanted, {})


# The service


def test_every_answer_has_one_request_id_and_a_problem_names_it(client: httpx.Client) -> None:
    for headers in ({}, {"X-Request-ID": "mine"}):
        answer = client.post("/score", files={"image": b"no image"}, headers=headers)
        assert answer.status_code == 415
        assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]
        assert (
            headers.get("X-Request-ID", answer.json()["request_id"]) == answer.json()["request_id"]
        )


def test_a_deadline_that_nobody_can_meet_is_refused_with_retry_after(client: httpx.Client) -> None:
    headers = {"X-Request-Timeout": "0.0001"}
    answer = client.post("/score", files={"image": PICTURE}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) in {(429, "overloaded"), (504, "deadline")}
    assert answer.status_code == 504 or float(answer.headers["retry-after"]) > 0


def of_each_replica(series: str) -> list[float]:
    """What a series counts, at the port of its own that each replica has."""
    found = []
    for port in range(9400, 9420):
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            continue
        found += [float(one.split()[1]) for one in text.splitlines() if one.startswith(series)]
    return found


def test_each_replica_shows_its_own_metrics_on_a_port_of_its_own(service: str) -> None:
    for _ in range(20):
        assert post(service) == 200
    counted = of_each_replica('agiqa_requests_total{code="200",endpoint="/score"} ')
    assert len(counted) == 2
    assert all(counted)


def test_a_worker_killed_inside_a_replica_costs_no_request(service: str) -> None:
    before = workers()
    assert len(before) == 2
    with load(lambda: post(service)) as found:
        os.kill(before[0], signal.SIGKILL)
        found.wait_for(5 * CLIENTS)
        while len(workers()) < 2:
            found.wait_for(CLIENTS)
        found.wait_for(5 * CLIENTS)
    assert found.failures == []


def test_a_redeploy_under_load_costs_no_request(service: str) -> None:
    before = set(processes(b"ServeReplica"))
    changed = SETTINGS.model_copy(update={"max_rows": 2048})
    with load(lambda: post(service), 4) as found:
        serve.run(deployment(changed, TWO), name=NAME)
        while before & set(processes(b"ServeReplica")):
            found.wait_for(1)
        found.wait_for(CLIENTS)
    assert found.failures == []


def test_a_killed_replica_costs_what_it_held_and_nothing_through_the_client(service: str) -> None:
    replicas = processes(b"ServeReplica")
    assert len(replicas) == 2

    def through_the_client() -> int | str:
        try:
            ours.score(PICTURE)
        except agiqa_client.AgiqaError as error:
            return repr(error)
        return 200

    with (
        agiqa_client.Client(service, timeout=120) as ours,
        load(lambda: post(service), 4) as plain,
        load(through_the_client, 4) as retried,
    ):
        os.kill(replicas[0], signal.SIGKILL)
        plain.wait_for(5 * CLIENTS)
        retried.wait_for(5 * CLIENTS)
    assert len(plain.failures) <= 4, plain.failures
    assert retried.failures == []


# Scaling


def rate(url: str, seconds: float = 5.0) -> float:
    """Images per second with more clients than the replicas take at once."""
    with load(lambda: post(url), 2 * CLIENTS) as found:
        began, before = time.monotonic(), len(found.answers)
        time.sleep(seconds)
        counted = len(found.answers) - before
        took = time.monotonic() - began
    assert found.failures == []
    return counted / took


def test_two_replicas_whose_workers_sleep_are_faster_than_one(
    service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = []
    for replicas in (1, 2):
        scale = Scale(min_replicas=replicas, max_replicas=replicas)
        serve.run(deployment(SETTINGS, scale, sleeping_app), name=NAME)
        rates.append(rate(service))
    with capsys.disabled():
        print(f"\nsleeping workers: {rates[1] / rates[0]:.2f}x of one replica ({rates})")  # noqa: T201
    assert rates[1] > rates[0]
    assert rates[0] <= 1.1 * IMAGES_PER_SECOND


def test_what_a_client_that_left_had_sent_is_dropped_and_not_counted_as_a_fault(url: str) -> None:
    serve.run(deployment(SETTINGS, TWO, sleeping_app), name=NAME)
    gone = 'agiqa_requests_total{code="499",endpoint="/score"} '
    while not sum(of_each_replica(gone)):
        with pytest.raises(httpx.TimeoutException):  # a worker sleeps longer
            httpx.post(f"{url}/score", files={"image": PICTURE}, timeout=0.06)
    while of_each_replica("agiqa_requests_in_flight ") != [1, 1]:  # these scrapes
        time.sleep(0.01)
    assert not sum(of_each_replica('agiqa_requests_total{code="500",endpoint="/score"} '))


# The command


def test_the_command_serves_on_a_cluster_until_a_signal(url: str, tmp_path: Path) -> None:
    serve.delete(NAME)
    cluster = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "app.cli.main", "serve", "--ray", cluster, "--device", "cpu"]
    own = {"AGIQA_MODELS": "tiny-clip-agiqa", "AGIQA_THREADS": "1", "AGIQA_MAX_CROP_MIB": "64"}
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=os.environ | own, stdout=output, stderr=output) as process,
    ):
        while process.poll() is None and post(url) != 200:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, log.read_text()
    assert NAME not in serve.status().applications


def test_serve_run_names_the_replicas_and_the_environment_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGIQA_THREADS", "3")
    monkeypatch.setenv("AGIQA_DEVICE", "cuda:0,cuda:1")
    arguments = {"min_replicas": "2", "max_replicas": "5"}  # as the command line gives them
    built = call_user_app_builder_with_args_if_necessary(application, arguments)
    options = built._bound_deployment
    assert options.ray_actor_options == {"num_gpus": 2, "num_cpus": 3}
    autoscaling = options._deployment_config.autoscaling_config
    assert (autoscaling.min_replicas, autoscaling.max_replicas) == (2, 5)
