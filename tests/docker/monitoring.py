"""The queries of the alerts and of the dashboard, and the metrics that they may ask for."""

import json
import re
from collections.abc import Iterator
from string import Template
from typing import Any

import yaml

from app.batching.admission import Admission
from app.batching.budget import Limits
from app.batching.lane import Lane
from app.batching.ledger import Ceilings
from app.batching.rate import Rates
from app.batching.scheduler import Scheduler
from app.metrics import Metrics

from .dockerfile import ROOT

PROMETHEUS = ROOT / "docker/prometheus"
GRAFANA = ROOT / "docker/grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards/agiqa.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS: dict[str, str] = {rule["alert"]: rule["expr"] for rule in RULES}
VARIABLES: dict[str, dict[str, Any]] = {
    variable["name"]: variable for variable in DASHBOARD["templating"]["list"]
}


def rows() -> list[tuple[str, list[dict[str, Any]]]]:
    """Question -> its panels, from top to bottom and left to right."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            found.append((panel["title"], []))
        else:
            found[-1][1].append(panel)
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for _, below in rows() for panel in below]


def dashboard_queries() -> dict[str, str]:
    """Panel and letter -> query, with Grafana's variables in it; annotations by their name."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
    return found | {note["name"]: note["expr"] for note in DASHBOARD["annotations"]["list"]}


def unit_of(name: str) -> str:
    """Of a query of ``dashboard_queries``."""
    units = {panel["title"]: panel["fieldConfig"]["defaults"]["unit"] for panel in panels()}
    return str(units.get(name[:-2], "none"))


def filled(query: str, **variables: str) -> str:
    """The query as Grafana sends it: everything is chosen, unless ``variables`` say otherwise."""
    chosen = {
        "__rate_interval": "30s",
        "instance": VARIABLES["instance"]["allValue"],
        "model": VARIABLES["model"]["allValue"],
        "window": VARIABLES["window"]["current"]["value"],
        "price": VARIABLES["price"]["current"]["value"],
    }
    return Template(query).substitute(chosen | variables)


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
    """Metrics as the service makes them, gauges that are read at each scrape included."""
    metrics = Metrics()
    scheduler = Scheduler(Limits(), Rates())
    admission = Admission(Ceilings(1, 1), scheduler, lambda: 0.0)
    metrics.watch_queue(scheduler, lambda: 0.0)
    metrics.watch_admission(admission, Lane(admission.has_room, lambda _: 1.0, 1))
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
        own = labels.get(family.name)
        if own is None:  # made at each scrape
            own = {label for sample in family.samples for label in sample.labels}
        suffixes = {"counter": ["_total"], "histogram": ["_sum", "_count"]}.get(family.type, [""])
        found |= {family.name + suffix: own for suffix in suffixes}
        if family.type == "histogram":
            found[f"{family.name}_bucket"] = own | {"le"}
    return found


def selectors(query: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each of our series in a query, with what its labels are compared with."""
    for name, braces in re.findall(r"\b(agiqa_\w+)(\{[^}]*\})?", query):
        yield name, dict(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', braces))


def groupings(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each of our series that is summed by labels -> these labels."""
    for match in re.finditer(r"by \(([^)]*)\)", query):
        if series := re.search(r"\bagiqa_\w+", query[match.end() :]):
            yield series[0], set(match[1].split(", "))
