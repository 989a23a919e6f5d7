"""What the dashboard computes from made-up series, to the digit: promtool's unit tests. Here is
what a short run can't have, too, such as a yesterday.
"""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from .monitoring import dashboard_queries, filled

pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"),
    reason="needs the program promtool: apt-get install prometheus",
)

QUERIES = dashboard_queries()
DAY = 24 * 60
OLD, NEW = 'instance="a:8000", job="agiqa"', 'instance="b:8000", job="agiqa"'
QUALITY = f'model="tiny", head="quality", {OLD}'


class Case(NamedTuple):
    panel: str
    series: dict[str, str]
    expected: dict[str, float]  # labels -> value
    minute: int = 30


def _each_minute(step: float, minutes: int = 60) -> str:
    return f"0+{step}x{minutes}"


def _always(value: float) -> str:
    return f"{value}+0x60"


def _requests(code: str, target: str = OLD) -> str:
    return f'agiqa_requests_total{{code="{code}", endpoint="/score", {target}}}'


def _by_class(priority: str, code: str, target: str = OLD) -> str:
    labels = f'code="{code}", priority="{priority}", {target}'
    return f"agiqa_requests_by_priority_total{{{labels}}}"


def _stage(stage: str, target: str = OLD) -> str:
    return f'agiqa_stage_duration_seconds_sum{{stage="{stage}", {target}}}'


# A day of a mean of 0.7, then two hours of 0.4, ten images a minute.
FALLEN = {
    f"agiqa_score_count{{{QUALITY}}}": _each_minute(10, DAY + 120),
    f"agiqa_score_sum{{{QUALITY}}}": f"0+7x{DAY} {7 * DAY + 4}+4x119",
}
# Two instances, one of them twice as busy: 30 and 15 of 60 seconds, of which a third is text.
BUSY = {
    _stage("inference"): _each_minute(20),
    _stage("reduce"): _each_minute(10),
    _stage("decode"): _each_minute(50),
    _stage("inference", NEW): _each_minute(10),
    _stage("reduce", NEW): _each_minute(5),
    f'agiqa_worker_up{{device="cuda:0", {OLD}}}': _always(1),
    f'agiqa_worker_up{{device="cpu", {NEW}}}': _always(1),
    f"agiqa_score_count{{{QUALITY}}}": _each_minute(90),
}
# An instance with three workers of two devices, which computed 45 of 60 seconds together.
TOGETHER = {
    _stage("inference"): _each_minute(45),
    f'agiqa_worker_up{{device="cuda:0", {OLD}}}': _always(2),
    f'agiqa_worker_up{{device="cuda:1", {OLD}}}': _always(1),
}
CLASSES = {
    f'agiqa_backlog_seconds{{priority="interactive", {OLD}}}': _always(3),
    f'agiqa_backlog_seconds{{priority="bulk", {OLD}}}': _always(20),
    f'agiqa_backlog_seconds{{priority="interactive", {NEW}}}': _always(1),
    _by_class("interactive", "200"): _each_minute(90),
    _by_class("interactive", "429"): _each_minute(10),
    _by_class("bulk", "200", NEW): _each_minute(1),
    _by_class("bulk", "429", NEW): _each_minute(2),
    _by_class("bulk", "504", OLD): _each_minute(1),
}
STATUSES = {
    _requests("200"): _each_minute(90),
    _requests("415"): _each_minute(5),
    _requests("429"): _each_minute(3),
    _requests("500"): _each_minute(1),
    _requests("504"): _each_minute(1),
    f'agiqa_requests_total{{code="503", endpoint="other", {OLD}}}': _each_minute(900),
}
SILENT = {series: _each_minute(0) for series in (*STATUSES, *BUSY, *FALLEN)}
ON_BOTH = (f'{{device="cuda:0", {OLD}}}', f'{{device="cpu", {NEW}}}')

CASES = {
    "server errors are 5xx of the scoring requests": Case(
        "Server errors, 5 min A", STATUSES, {"{}": 0.02}
    ),
    "served is the rest": Case("Served, 1 h A", STATUSES, {"{}": 0.98}),
    "missed deadlines are the 504": Case("Missed deadlines, 5 min A", STATUSES, {"{}": 0.01}),
    "refused are the 429": Case("Refused, 5 min A", STATUSES, {"{}": 0.03}),
    "the busiest device": Case("Device busy, 5 min A", BUSY, {"{}": 0.5}),
    "every device with its name": Case(
        "Device busy, by device A", BUSY, dict(zip(ON_BOTH, (0.5, 0.25), strict=True))
    ),
    "of several workers the mean": Case("Device busy, 5 min A", TOGETHER, {"{}": 0.25}),
    "of several workers the rest is idle": Case("Device idle, 5 min A", TOGETHER, {"{}": 0.75}),
    "the mean of its workers at each device": Case(
        "Device busy, by device A",
        TOGETHER,
        {f'{{device="cuda:{n}", {OLD}}}': 0.25 for n in range(2)},
    ),
    "idle is what is left, of both": Case("Device idle, 5 min A", BUSY, {"{}": 0.625}),
    "1.5 images/s on 0.75 devices": Case("Device time of 1000 images A", BUSY, {"{}": 500}),
    "of the one that scored, 0.5 devices": Case(
        "Device time of 1000 images, by device A", BUSY, {ON_BOTH[0]: 1000 / 3}
    ),
    "two instances are paid for, one is down": Case(
        "Price of 1000 images A",
        BUSY | {f"up{{{OLD}}}": _always(1), f"up{{{NEW}}}": _always(0)},
        {"{}": 1000 / 3600 / 1.5},
    ),
    "the longest backlog that people wait for": Case("Backlog A", CLASSES, {"{}": 3}),
    "refused or late, class by class": Case(
        "Refused or late, by class A",
        CLASSES,
        {'{priority="interactive"}': 0.1, '{priority="bulk"}': 0.75},
    ),
    "the mean moved, either way": Case(
        "Moved against yesterday A", FALLEN, {'{model="tiny"}': 0.3}, DAY + 110
    ),
    "the mean moved down": Case(
        "Drift against yesterday A",
        FALLEN,
        {'{model="tiny", head="quality"}': -0.3},
        DAY + 110,
    ),
    # 15 minutes of 0.4, against 6 hours of which one has 0.4 and five have 0.7: a mean of 0.65.
    "against six hours": Case(
        "Drift against the last 6 h A",
        FALLEN,
        {'{model="tiny", head="quality"}': -0.25},
        DAY + 60,
    ),
    "six hours are enough where there was no yesterday": Case(
        "Moved against yesterday A", FALLEN, {}, DAY - 10
    ),
    "one poor image of four": Case(
        "Poor images A",
        {
            f'agiqa_score_bucket{{le="0.3", {QUALITY}}}': _each_minute(2),
            f"agiqa_score_count{{{QUALITY}}}": _each_minute(8),
        },
        {'{model="tiny"}': 0.25},
    ),
    "padding of every fifth row": Case(
        "Padding share A",
        {
            f"agiqa_padding_crops_total{{{OLD}}}": _each_minute(1),
            f"agiqa_crops_processed_total{{{OLD}}}": _each_minute(4),
        },
        {"{}": 0.2},
    ),
    "the fullest GPU": Case(
        "GPU memory A",
        {
            f'agiqa_gpu_memory_bytes{{device="cuda:0", {OLD}}}': _always(1e9),
            f'agiqa_gpu_memory_bytes{{device="cuda:1", {OLD}}}': _always(2e9),
        },
        {"{}": 2e9},
    ),
    "a new revision is marked when it begins": Case(
        "Model revisions",
        {
            f'agiqa_model_info{{name="tiny", revision="1", {OLD}}}': "1+0x29 stale",
            f'agiqa_model_info{{name="tiny", revision="2", {OLD}}}': "_x30 1+0x30",
        },
        {'{name="tiny", revision="2"}': 1},
    ),
    "and not once more a while later": Case(
        "Model revisions",
        {f'agiqa_model_info{{name="tiny", revision="2", {OLD}}}': "_x30 1+0x30"},
        {},
        40,
    ),
    "an alert of no instance counts too": Case(
        "Firing alerts A",
        {
            'ALERTS{alertname="AgiqaScoreDrift", alertstate="firing"}': _always(1),
            f'ALERTS{{alertname="AgiqaSlow", alertstate="firing", {OLD}}}': _always(1),
            f'ALERTS{{alertname="AgiqaSlow", alertstate="pending", {NEW}}}': _always(1),
            'ALERTS{alertname="Watchdog", alertstate="firing"}': _always(1),
        },
        {"{}": 2},
    ),
    **{
        f"{panel} is unknown in silence": Case(f"{panel} A", SILENT, {})
        for panel in (
            *("Server errors, 5 min", "Served, 1 h", "Refused, 5 min", "Mean quality"),
            *("Device time of 1000 images", "Price of 1000 images", "Moved against 6 h"),
            *("Poor and excellent images", "Failed in the model, 5 min"),
        )
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_figure(tmp_path: Path, case: Case) -> None:
    query = filled(QUERIES[case.panel], __rate_interval="5m")
    # In whole millionths, since sums of decimals are not exact.
    samples = [
        {"labels": labels, "value": round(value * 1e6)} for labels, value in case.expected.items()
    ]
    asked = {"expr": f"round(({query}) * 1e6)", "eval_time": f"{case.minute}m"}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": v} for name, v in case.series.items()],
        "promql_expr_test": [asked | {"exp_samples": samples}],
    }
    file = tmp_path / "suite.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [test]})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
