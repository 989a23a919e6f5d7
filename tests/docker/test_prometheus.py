"""The configuration, and every query of the dashboard, in a real Prometheus that scraped a real
run: load of all kinds on the bundled models, a flood, and a worker that is killed.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.load import FAULTY, KINDS, Load
from tests.app.pictures import encoded
from tests.app.server import Running, serving

from .monitoring import (
    ALERTS,
    PROMETHEUS,
    VARIABLES,
    dashboard_queries,
    filled,
    legends,
    unit_of,
)
from .scraping import Prometheus, Series, scraping, wait_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("promtool")),
        reason="needs the programs prometheus and promtool: apt-get install prometheus",
    ),
]

QUERIES = dashboard_queries()
MODELS = {"tiny-mpiqe", "tiny-clip-agiqa"}
# What such a run can't have, and why; these queries need only be valid.
WITHOUT_DATA = {
    "Moved against yesterday A": "there was no yesterday",
    "Drift against yesterday A": "there was no yesterday",
    "Alerts A": "alerts wait longer than the run lasts before they are even pending, most of them",
    "Firing alerts": "alerts wait longer than the run lasts",
    "Model revisions": "both models serve since before the run",
    "Connections B": "no client comes to a limit",
}
# What is 0 when the last clients have just gone, or on a CPU. Of the others at least one series
# is above 0.
MAY_BE_ZERO = {
    *("Firing alerts A", "Backlog A", "Oldest waits A", "Images waiting A", "In flight A"),
    *("Backlog, in seconds A", "Waiting A", "Waiting B", "Waiting C", "Age of the oldest A"),
    *("Waiting D", "Refused or late, by class A"),
    *("Event loop lag, 1 min A", "Event loop lag A"),
    *("Refused with 429 A", "Failed in the model, 5 min A", "Poor images A"),
    *("Poor and excellent images A", "Poor and excellent images B"),
    *("Worker restarts and out-of-memory B", "Worker restarts and out-of-memory C"),
    *("Crops per second B", "Padding share A", "Shared memory A", "Uploads under way A"),
    *("GPU memory A", "GPU memory, by device A", "Prompts by cache result A"),
    *("Moved against 6 h A", "Drift against the last 6 h A"),
}
LIMITS = {"percentunit": (0.0, 1.0), "s": (0.0, 60.0)}
OTHER_LIMITS = {
    "Drift against the last 6 h A": (-1.0, 1.0),
    "Device time of 1000 images A": (1.0, 5000.0),
    "Device time of 1000 images, by device A": (1.0, 5000.0),
    **{f"Spread of the quality: p10, p50, p90 {letter}": (0.0, 1.0) for letter in "ABC"},
    "Mean quality A": (0.05, 0.95),
    "Mean score, by model and head A": (0.05, 0.95),
    "Answers A": (1.0, 1.0),
    "Takes requests A": (1.0, 1.0),
    "Workers that run A": (1.0, 1.0),
    # One of the reasons; the others are 0.
    "Worker restarts and out-of-memory A": (0.0, 2.0),
    "Rows per batch, 5 min A": (1.0, 128.0),
    "Margin of the estimates A": (1.0, 4.0),
}


@dataclass(frozen=True)
class Run:
    """A run that is over, and the Prometheus that watched it."""

    prometheus: Prometheus
    target: str
    start: float
    end: float
    seen: Counter[tuple[str, int]]

    def find(self, query: str, **variables: str) -> list[Series]:
        """What a query of the dashboard finds at the end of the run."""
        return self.prometheus.at(filled(query, **variables), self.end)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("run")
    # Small ceilings, so that a few clients are already too many.
    environment = {"AGIQA_MODELS": ",".join(MODELS), "AGIQA_MAX_ROWS": "160"}
    # Of one score, so that nearly every image is computed all the same.
    environment["AGIQA_CACHE_ANSWERS"] = "1"
    with serving(folder, environment) as service:
        target = service.url.removeprefix("http://")
        with scraping(folder, target) as prometheus:
            start = time.time()
            _scrapes(prometheus, 4)  # nothing to do yet: rates of 0, means of nothing
            _miss_a_deadline(service)
            seen = Load(service.url, seconds=4, clients=3).run()
            seen += Load(service.url, seconds=3, clients=24, kinds=["prompted", "batch"]).run()
            _kill_worker(service)
            seen += Load(service.url, seconds=4, clients=3, degraded=0.5).run()
            _scrapes(prometheus, 2)
            yield Run(prometheus, target, start, time.time(), seen)


def _scrapes(prometheus: Prometheus, more: int) -> None:
    """Waits for so many scrapes."""
    count = "sum(count_over_time(agiqa_ready[10m]))"
    before = sum(s.values[0] for s in prometheus.at(count))
    wait_for(lambda: sum(s.values[0] for s in prometheus.at(count)) >= before + more)


def _miss_a_deadline(service: Running) -> None:
    """A lone request is admitted whatever its deadline; beside others it may be refused instead."""
    headers = {"X-Request-Timeout": "0.001"}
    answer = service.client.post("/score", files={"image": encoded()}, headers=headers)
    assert answer.status_code == 504


def _kill_worker(service: Running) -> None:
    (pid,) = service.worker_pids
    os.kill(pid, signal.SIGKILL)
    service.wait_until(lambda: service.metric("agiqa_worker_restarts_total", reason="killed") == 1)
    service.wait_until_ready()


def assert_promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration() -> None:
    assert_promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_promtool_accepts_the_alerts() -> None:
    assert_promtool("check", "rules", PROMETHEUS / "alerts.yml")


def test_the_run_had_everything_that_the_dashboard_tells_apart(run: Run) -> None:
    assert {kind for kind, _ in run.seen} == set(KINDS)
    assert {200, 400, 404, 415, 429} <= {status for _, status in run.seen}
    for kind in set(KINDS) - set(FAULTY):
        assert run.seen[kind, 200] > 0
    (codes,) = run.find('sum(agiqa_requests_total{code="200", endpoint=~"/score.*"})')
    assert codes.values == [sum(n for (_, status), n in run.seen.items() if status == 200)]


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_of_the_dashboard_finds_something_plausible(run: Run, name: str) -> None:
    found = run.find(QUERIES[name])
    if name in WITHOUT_DATA:
        return
    assert found
    low, high = OTHER_LIMITS.get(name, LIMITS.get(unit_of(name), (0.0, math.inf)))
    values = [series.values[0] for series in found]
    assert all(low <= value <= high for value in values), values
    assert name in MAY_BE_ZERO or max(values) > 0


def test_only_queries_that_exist_are_excused() -> None:
    assert {*WITHOUT_DATA, *MAY_BE_ZERO, *OTHER_LIMITS} <= set(QUERIES)


@pytest.mark.parametrize("name", [name for name, labels in legends().items() if labels])
def test_the_labels_of_a_legend_are_in_what_its_query_finds(run: Run, name: str) -> None:
    for series in run.find(QUERIES[name]):
        assert legends()[name] <= set(series.labels)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_gives_no_nonsense_when_nothing_happens(run: Run, name: str) -> None:
    """From before the first request to the end: a division of 0 by 0 would be NaN."""
    for series in run.prometheus.between(filled(QUERIES[name]), run.start, run.end, 1.0):
        assert all(map(math.isfinite, series.values))


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_finds_the_chosen_instance_and_no_other(run: Run, name: str) -> None:
    chosen = run.target.replace(".", r"\\.")  # as Grafana writes a chosen value into a regex
    here = run.find(QUERIES[name], instance=chosen)
    assert {frozenset(s.labels.items()) for s in here} == {
        frozenset(s.labels.items()) for s in run.find(QUERIES[name])
    }
    elsewhere = run.find(QUERIES[name], instance="elsewhere:8000")
    assert [s.values for s in elsewhere] == ([[0.0]] if name == "Firing alerts A" else [])


@pytest.mark.parametrize("name", [n for n, query in QUERIES.items() if "$model" in query])
def test_a_query_of_scores_finds_the_chosen_model_and_no_other(run: Run, name: str) -> None:
    found = run.find(QUERIES[name], model="tiny-mpiqe")
    names = {series.labels.get("model", series.labels.get("name")) for series in found}
    assert names <= {"tiny-mpiqe", None}
    assert not run.find(QUERIES[name], model="another")


def test_the_lists_of_instances_and_models_are_those_of_the_run(run: Run) -> None:
    wanted = {"instance": {run.target}, "model": MODELS}
    for name, values in wanted.items():
        query = filled(VARIABLES[name]["definition"])
        parts = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert parts is not None
        series = run.prometheus.ask("series", [("match[]", parts[1])])
        assert {one[parts[2]] for one in series} == values


def test_prometheus_evaluates_every_alert_without_error(run: Run) -> None:
    def all_evaluated() -> bool:
        rules = [rule for group in run.prometheus.ask("rules")["groups"] for rule in group["rules"]]
        healths = {rule["name"]: rule["health"] for rule in rules}
        assert "err" not in healths.values()
        return healths == dict.fromkeys(ALERTS, "ok")

    wait_for(all_evaluated)
