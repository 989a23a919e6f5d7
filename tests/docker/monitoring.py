"""The queries of the alerts and of the dashboard, and metrics to ask them about."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from app.metrics import Metrics
from app.rate import Rates
from app.scheduler import Limits, Scheduler

from .dockerfile import ROOT

PROMETHEUS = ROOT / "docker/prometheus"
GRAFANA = ROOT / "docker/grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/agiqa.json").read_text())
ALERTS: dict[str, str] = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_queries() -> dict[str, str]:
    """Panel and letter -> query, Grafana's variable filled in."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
    found |= {note["name"]: note["expr"] for note in DASHBOARD["annotations"]["list"]}
    return {name: query.replace("$__rate_interval", "30s") for name, query in found.items()}


def legends() -> dict[str, set[str]]:
    """Panel and letter -> the labels that its legend names."""
    return {
        f"{panel['title']} {target['refId']}": set(
            re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        )
        for panel in panels()
        for target in panel["targets"]
    }


def full_metrics() -> Metrics:
    """Metrics as the service makes them, gauges of the queue included."""
    metrics = Metrics()
    metrics.watch_queue(Scheduler(Limits(), Rates()), lambda: 0.0)
    return metrics


def series_labels(metrics: Metrics) -> dict[str, set[str]]:
    """Name of each series that can be queried -> its labels."""
    labels = {
        metric._name: set(metric._labelnames)
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        own = labels.get(family.name, set())
        suffixes = {"counter": ["_total"], "histogram": ["_sum", "_count"]}.get(family.type, [""])
        found |= {family.name + suffix: own for suffix in suffixes}
        if family.type == "histogram":
            found[f"{family.name}_bucket"] = own | {"le"}
    return found


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each of our series in a query, with the labels that it is selected by."""
    for name, braces in re.findall(r"\b(agiqa_\w+)(\{[^}]*\})?", query):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces))


def grouping(query: str) -> set[str]:
    """The labels that a query sums by."""
    return {
        label for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(", ")
    }


def be_busy(metrics: Metrics) -> None:
    """One more of everything, so that every rate is above zero."""
    for code in ("200", "429", "500"):
        metrics.requests.labels("/score", code).inc()
    metrics.failures.labels("inference").inc()
    metrics.duration.labels("/score").observe(0.2)
    for stage in ("read", "decode", "queue", "inference", "reduce"):
        metrics.stages.labels(stage).observe(0.03)
    for histogram in (metrics.request_crops, metrics.batch_crops, metrics.batch_requests):
        histogram.observe(9)
    metrics.megapixels.observe(1.0)
    metrics.batch_seconds.observe(0.1)
    metrics.batches.labels("idle").inc()
    for counter in (metrics.crops_processed, metrics.padding_crops, metrics.oom):
        counter.inc()
    metrics.worker_up.labels("cpu").set(1)
    metrics.ready.set(1)
    metrics.worker_restarts.labels("died").inc()
    metrics.prompt_cache.labels("hit").inc()
    metrics.model_info.labels("tiny", "clip-agiqa", "1", "cpu", "float32").set(1)
    metrics.score.labels("tiny", "quality").observe(0.7)
