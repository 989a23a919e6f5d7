import re
from typing import Any

import pytest
import yaml

from app.settings import Settings

from .dockerfile import ROOT
from .monitoring import (
    ALERTS,
    DASHBOARD,
    GRAFANA,
    RULES,
    VARIABLES,
    dashboard_queries,
    filled,
    full_metrics,
    groupings,
    panels,
    rows,
    selectors,
    series_labels,
)

SERIES = series_labels(full_metrics())
QUERIES = {**ALERTS, **dashboard_queries()}
# What Prometheus adds to every series.
OF_THE_TARGET = {"job", "instance"}
# The sum over all models is meant: what devices do is not counted by model.
OF_ALL_MODELS = {
    "Failed in the model, 5 min",
    "Images/s, 5 min",
    "Device time of 1000 images",
    "Price of 1000 images",
    "Device time of 1000 images, by device",
}
PANELS = {panel["title"]: panel for panel in panels()}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_queries_name_series_and_labels_that_the_service_has(query: str) -> None:
    for name, labels in selectors(query):
        assert name in SERIES
        assert set(labels) <= SERIES[name] | OF_THE_TARGET
    for name, by in groupings(query):
        assert by <= SERIES[name] | OF_THE_TARGET


def _bounds(name: str) -> list[float]:
    """Of the buckets of a histogram."""
    metrics = full_metrics()
    metrics.batch_seconds.observe(1.0)
    for histogram in (metrics.duration, metrics.stages):
        histogram.labels("other").observe(1.0)
    metrics.score.labels("tiny", "quality").observe(0.5)
    samples = [s for family in metrics.registry.collect() for s in family.samples]
    return sorted({float(s.labels["le"]) for s in samples if s.name == name})


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_share_below_a_bound_asks_for_a_bucket_that_is_there(query: str) -> None:
    for name, labels in selectors(query):
        if "le" in labels:
            assert float(labels["le"]) in _bounds(name)


def test_answers_that_just_miss_the_deadline_do_not_look_much_later() -> None:
    deadline = Settings.model_fields["deadline_seconds"].default
    bounds = _bounds("agiqa_request_duration_seconds_bucket")
    assert deadline in bounds
    assert bounds[bounds.index(deadline) + 1] <= 1.25 * deadline


@pytest.mark.parametrize(("name", "query"), dashboard_queries().items(), ids=dashboard_queries())
def test_every_query_keeps_to_the_chosen_instances_and_models(name: str, query: str) -> None:
    for series, labels in selectors(query):
        assert labels["instance"] == "$instance", series
        by_model = {"agiqa_model_info": "name"}.get(series, "model")
        if by_model in SERIES[series] and name.removesuffix(" A") not in OF_ALL_MODELS:
            assert labels[by_model] == "$model", series


def test_the_dashboard_answers_the_five_questions_in_order() -> None:
    assert [question for question, _ in rows()] == [
        "Is it up?",
        "Is it fast?",
        "Is it full?",
        "Is it right?",
        "What does it cost?",
    ]
    tops = [panel["gridPos"]["y"] for panel in DASHBOARD["panels"]]
    assert tops == sorted(tops)


@pytest.mark.parametrize(
    "below", [below for _, below in rows()], ids=[title for title, _ in rows()]
)
def test_a_question_is_answered_at_a_glance_before_the_why(below: list[dict[str, Any]]) -> None:
    kinds = [panel["type"] for panel in below]
    glance = kinds.index(next(kind for kind in kinds if kind != "stat"))
    assert glance >= 4
    assert "stat" not in kinds[glance:]
    for panel in below[:glance]:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["thresholds"]["steps"]
        assert defaults["noValue"]
        assert all(target["instant"] for target in panel["targets"])


@pytest.mark.parametrize("panel", panels(), ids=[panel["title"] for panel in panels()])
def test_every_panel_says_what_a_bad_value_means(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 60
    assert panel["fieldConfig"]["defaults"]["unit"]
    for alert in re.findall(r"Agiqa[A-Z]\w+", panel["description"]):
        assert alert in ALERTS
    for setting in re.findall(r"AGIQA_\w+", panel["description"]):
        assert f"`{setting}`" in (ROOT / "docs/operations.md").read_text()


def test_panels_that_descriptions_point_to_exist() -> None:
    for panel in panels():
        for pointed in re.findall(r"see '([^']+)'", panel["description"]):
            assert pointed in PANELS or pointed in [question for question, _ in rows()]


@pytest.mark.parametrize(
    ("panel", "alert", "comparison"),
    [
        ("Server errors, 5 min", "AgiqaServerErrors", "> 0.02"),
        ("p95, single images, 5 min", "AgiqaSlow", "> 8"),
        ("Latency of single images", "AgiqaSlow", "> 8"),
        ("Event loop lag, 1 min", "AgiqaEventLoopLag", "> 0.1"),
        ("Oldest waits", "AgiqaQueueOld", "> 5"),
        ("Age of the oldest", "AgiqaQueueOld", "> 5"),
        ("Refused, 5 min", "AgiqaOverloaded", "> 0.05"),
        ("Refused with 429", "AgiqaOverloaded", "> 0.05"),
        ("Margin of the estimates", "AgiqaEstimatesOff", "> 2"),
        ("Refused or late, by class", "AgiqaBulkStarved", "> 0.5"),
        ("Moved against yesterday", "AgiqaScoreDrift", "> 0.1"),
    ],
)
def test_a_panel_is_red_where_its_alert_fires(panel: str, alert: str, comparison: str) -> None:
    assert comparison in ALERTS[alert]
    last = PANELS[panel]["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
    assert last == {"color": "red", "value": float(comparison[2:])}


def test_the_data_source_can_be_chosen_and_is_at_first_the_provisioned_one() -> None:
    file = GRAFANA / "provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    variable = VARIABLES["datasource"]
    assert variable["query"] == source["type"] == "prometheus"
    assert variable["current"] == {"text": source["name"], "value": source["uid"]}
    asked = [panel["datasource"] for panel in panels()]
    asked += [target["datasource"] for panel in panels() for target in panel["targets"]]
    asked += [note["datasource"] for note in DASHBOARD["annotations"]["list"]]
    asked += [v["datasource"] for v in VARIABLES.values() if v["type"] == "query"]
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in asked)


@pytest.mark.parametrize("name", ["instance", "model"])
def test_several_instances_and_models_can_be_chosen_or_all(name: str) -> None:
    variable = VARIABLES[name]
    assert variable["multi"]
    assert variable["includeAll"]
    assert variable["allValue"] == ".*"
    assert variable["query"]["query"] == variable["definition"]


def test_every_variable_is_used_and_no_other_is_asked_for() -> None:
    queries = dashboard_queries().values()
    for name in set(VARIABLES) - {"datasource"}:
        assert any(f"${name}" in query for query in queries)
    assert all("$" not in filled(query) for query in queries)


def test_no_two_panels_share_an_id_or_a_place_or_a_title() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(PANELS) == len(panels())
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)


def test_every_series_of_the_service_is_on_the_dashboard() -> None:
    shown = {name for query in dashboard_queries().values() for name, _ in selectors(query)}
    missing = {
        family.name
        for family in full_metrics().registry.collect()
        if not any(name.startswith(family.name) for name in shown)
    }
    assert not missing


@pytest.mark.parametrize("rule", RULES, ids=list(ALERTS))
def test_every_alert_points_to_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    sections = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.M)
    assert page == "docs/operations.md"
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in sections


def test_the_runbook_has_no_section_of_an_alert_that_is_not_there() -> None:
    sections = re.findall(r"^### (Agiqa\w+)$", (ROOT / "docs/operations.md").read_text(), re.M)
    assert sections == list(ALERTS)
