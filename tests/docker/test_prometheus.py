"""The configuration in a real Prometheus."""

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from .monitoring import ALERTS, PROMETHEUS, be_busy, dashboard_queries, full_metrics, legends

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs the programs prometheus and promtool: apt-get install prometheus",
)

QUERIES = dashboard_queries()
Ask = Callable[..., Any]


def assert_promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration() -> None:
    assert_promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_promtool_accepts_the_alerts() -> None:
    assert_promtool("check", "rules", PROMETHEUS / "alerts.yml")


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the API of a Prometheus that has scraped a busy service a few times."""
    folder = tmp_path_factory.mktemp("prometheus")
    with _busy_service() as target, _prometheus(folder, target) as api:
        _wait_for(lambda: _value(api("query", query='up{job="agiqa"}')) == 1)
        scrapes = "count_over_time(agiqa_ready[1m])"
        _wait_for(lambda: (_value(api("query", query=scrapes)) or 0) >= 4)
        yield api


@contextmanager
def _busy_service() -> Iterator[str]:
    metrics = full_metrics()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            be_busy(metrics)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            self.wfile.write(metrics.text())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def _prometheus(folder: Path, target: str) -> Iterator[Ask]:
    """Our configuration with another target and a quicker pace."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "300ms", "evaluation_interval": "300ms"}
    config["scrape_configs"][0] |= {
        "scrape_timeout": "300ms",
        "static_configs": [{"targets": [target]}],
    }
    config["rule_files"] = [str(PROMETHEUS / file) for file in config["rule_files"]]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{_free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def api(path: str, **parameters: str) -> Any:
        """The data of an answer; an error status raises."""
        asked = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with opener.open(asked, timeout=10) as answer:
            content = json.load(answer)
        assert content["status"] == "success"
        return content["data"]

    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield api
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _value(data: Any) -> float | None:
    """The value of the one series of an answer, if there is one."""
    return float(data["result"][0]["value"][1]) if data["result"] else None


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass  # it is starting
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def test_prometheus_scrapes_the_metrics_of_the_service(ask: Ask) -> None:
    (target,) = ask("targets")["activeTargets"]
    assert target["health"] == "up", target["lastError"]
    assert (_value(ask("query", query='agiqa_requests_total{code="200"} > 1')) or 0) > 1


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_every_query_of_the_dashboard_finds_something(ask: Ask, query: str) -> None:
    data = ask("query", query=query)
    if "offset" not in query:  # there was no yesterday
        assert data["result"]


@pytest.mark.parametrize("name", [name for name, labels in legends().items() if labels])
def test_the_labels_of_a_legend_are_in_what_its_query_finds(ask: Ask, name: str) -> None:
    for series in ask("query", query=QUERIES[name])["result"]:
        assert legends()[name] <= set(series["metric"])


def test_prometheus_evaluates_every_alert_without_error(ask: Ask) -> None:
    def all_evaluated() -> bool:
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
        healths = {rule["name"]: rule["health"] for rule in rules}
        assert "err" not in healths.values()
        return healths == dict.fromkeys(ALERTS, "ok")

    _wait_for(all_evaluated)
