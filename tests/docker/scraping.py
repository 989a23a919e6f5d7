"""A real Prometheus with our configuration, at a quicker pace and with another target."""

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .monitoring import PROMETHEUS


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and its values in order of time."""

    labels: dict[str, str]
    values: list[float]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Any:
        """The data of an answer; an error status raises."""
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=10) as answer:
            content = json.load(answer)
        assert content["status"] == "success"
        return content["data"]

    def at(self, query: str, time_: float | None = None) -> list[Series]:
        """What a query finds at one time; now, if none is given."""
        when = [] if time_ is None else [("time", str(time_))]
        found = self.ask("query", [("query", query), *when])["result"]
        return [Series(one["metric"], [float(one["value"][1])]) for one in found]

    def between(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """What a query finds between two times."""
        times = {"start": start, "end": end, "step": step}
        asked = [("query", query), *((name, str(value)) for name, value in times.items())]
        found = self.ask("query_range", asked)["result"]
        return [Series(one["metric"], [float(v) for _, v in one["values"]]) for one in found]


@contextmanager
def scraping(folder: Path, target: str, pace: str = "500ms") -> Iterator[Prometheus]:
    """Starts a Prometheus that scrapes ``target`` (host:port) once per ``pace``."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": pace, "evaluation_interval": pace}
    del config["scrape_configs"][0]["dns_sd_configs"]
    config["scrape_configs"][0] |= {
        "scrape_timeout": pace,
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
    prometheus = Prometheus(f"http://{address}")
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(lambda: any(s.values == [1.0] for s in prometheus.at('up{job="agiqa"}')))
            yield prometheus
        finally:
            process.terminate()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until the condition holds; what can't be reached yet is asked again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass  # it is starting
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
