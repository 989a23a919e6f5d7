import pytest
import yaml

from .monitoring import (
    ALERTS,
    DASHBOARD,
    GRAFANA,
    dashboard_queries,
    full_metrics,
    grouping,
    panels,
    selectors,
    series_labels,
)

SERIES = series_labels(full_metrics())
QUERIES = {**ALERTS, **dashboard_queries()}
# What Prometheus adds to every series.
OF_THE_TARGET = {"job", "instance"}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_queries_name_series_and_labels_that_the_service_has(query: str) -> None:
    for name, labels in selectors(query):
        assert name in SERIES
        assert labels <= SERIES[name] | OF_THE_TARGET
        assert grouping(query) <= SERIES[name] | OF_THE_TARGET


def test_the_dashboard_answers_the_five_questions_in_order() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Is it up?",
        "Is it fast?",
        "Is it full?",
        "Is it right?",
        "What does it cost?",
    ]


def test_the_dashboard_asks_the_provisioned_data_source() -> None:
    file = GRAFANA / "provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    asked = [panel["datasource"] for panel in panels()]
    asked += [target["datasource"] for panel in panels() for target in panel["targets"]]
    asked += [note["datasource"] for note in DASHBOARD["annotations"]["list"]]
    assert all(s == {"type": source["type"], "uid": source["uid"]} for s in asked)


def test_no_two_panels_share_an_id_or_a_place() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
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
