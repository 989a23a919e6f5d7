"""Each alert fires on its own trouble, and nothing fires without trouble: promtool's unit tests."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from .monitoring import ALERTS, PROMETHEUS

pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"),
    reason="needs the program promtool: apt-get install prometheus",
)

HOUR, DAY = 60, 24 * 60
SCORES = {"model": "tiny", "head": "quality"}


def _series(name: str, **labels: str) -> str:
    labels = {"job": "agiqa", "instance": "agiqa:8000", **labels}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def _requests(code: str, endpoint: str = "/score") -> str:
    return _series("agiqa_requests_total", code=code, endpoint=endpoint)


def _bulk(code: str) -> str:
    return _series("agiqa_requests_by_priority_total", code=code, priority="bulk")


def _duration(le: str, endpoint: str = "/score") -> str:
    return _series("agiqa_request_duration_seconds_bucket", le=le, endpoint=endpoint)


def _always(value: float) -> str:
    return f"{value}+0x{HOUR}"


def _each_minute(step: float, minutes: int = HOUR) -> str:
    return f"0+{step}x{minutes}"


WELL = {
    _series("up"): _always(1),
    _series("agiqa_ready"): _always(1),
    _series("agiqa_worker_up", device="cpu"): _always(2),
    _series("agiqa_workers", device="cpu"): _always(2),
    _series("agiqa_worker_restarts_total", reason="killed"): _always(1),
    _series("agiqa_worker_restarts_total", reason="hang"): _always(1),
    _series("agiqa_request_failures_total", reason="quarantined"): _always(3),
    _series("agiqa_oom_total"): _always(1),
    _requests("200"): _each_minute(600),
    _requests("429"): _each_minute(6),
    _requests("500"): _each_minute(1),
    _duration("5.0"): _each_minute(600),
    _duration("10.0"): _each_minute(600),
    _duration("+Inf"): _each_minute(607),
    _series("agiqa_queue_oldest_age_seconds"): _always(2),
    _series("agiqa_event_loop_lag_seconds"): _always(0.002),
    _series("agiqa_admission_margin"): _always(1.3),
    _bulk("200"): _each_minute(60),
    _bulk("429"): _each_minute(20),
    _bulk("504"): _each_minute(1),
}

# alert -> the series that differ
TROUBLE = {
    "AgiqaDown": {_series("up"): _always(0)},
    "AgiqaWorkerDown": {_series("agiqa_worker_up", device="cpu"): _always(0)},
    "AgiqaWorkerMissing": {_series("agiqa_worker_up", device="cpu"): _always(1)},
    "AgiqaNotReady": {_series("agiqa_ready"): _always(0)},
    "AgiqaWorkerRestarts": {
        _series("agiqa_worker_restarts_total", reason="killed"): _each_minute(0.25)
    },
    # Too few for AgiqaWorkerRestarts.
    "AgiqaWorkerHangs": {_series("agiqa_worker_restarts_total", reason="hang"): _each_minute(0.1)},
    "AgiqaQuarantine": {
        _series("agiqa_request_failures_total", reason="quarantined"): _each_minute(1)
    },
    "AgiqaOutOfMemory": {_series("agiqa_oom_total"): _each_minute(0.25)},
    "AgiqaServerErrors": {_requests("504"): _each_minute(30)},
    "AgiqaSlow": {_duration("5.0"): _each_minute(100)},
    "AgiqaQueueOld": {_series("agiqa_queue_oldest_age_seconds"): _always(6)},
    "AgiqaEventLoopLag": {_series("agiqa_event_loop_lag_seconds"): _always(0.2)},
    "AgiqaOverloaded": {_requests("429"): _each_minute(60)},
    "AgiqaEstimatesOff": {_series("agiqa_admission_margin"): _always(2.5)},
    "AgiqaBulkStarved": {_bulk("429"): _each_minute(80)},
}

NO_TROUBLE = {
    "nothing": {},
    "a margin from before the silence": {
        _series("agiqa_admission_margin"): _always(2.5),
        _requests("200"): _always(600),
        _requests("429"): _always(6),
        _requests("500"): _always(1),
    },
    "failing probes": {_requests("503", "other"): _each_minute(600)},
    "slow batch calls": {
        _duration("5.0", "/score/batch"): _each_minute(0),
        _duration("10.0", "/score/batch"): _each_minute(600),
        _duration("+Inf", "/score/batch"): _each_minute(600),
    },
}


def _scores(per_minute: int, mean: float, mean_now: float) -> dict[str, str]:
    """A day and a bit; the mean changes two hours before the end."""
    before, after = DAY, 2 * HOUR
    step, total = per_minute * mean, per_minute * mean * before
    step_now = per_minute * mean_now
    return {
        _series("up"): f"1+0x{before + after}",
        _series("agiqa_score_count", **SCORES): _each_minute(per_minute, before + after),
        _series("agiqa_score_sum", **SCORES): (
            f"0+{step}x{before} {total + step_now}+{step_now}x{after - 1}"
        ),
    }


def assert_firing(folder: Path, series: dict[str, str], minute: int, expected: list[str]) -> None:
    """Fails unless exactly the expected alerts fire at that minute."""
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected
                ],
            }
        ],
    }
    suite = {
        "rule_files": [str(PROMETHEUS / "alerts.yml")],
        # A day minute by minute would take seconds.
        "evaluation_interval": "1m" if minute < DAY else "5m",
        "tests": [case],
    }
    file = folder / "suite.yml"
    file.write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", TROUBLE)
def test_an_alert_fires_on_its_trouble_and_no_other_does(tmp_path: Path, alert: str) -> None:
    assert_firing(tmp_path, WELL | TROUBLE[alert], 30, [alert])


def test_it_is_down_when_no_instance_is_found(tmp_path: Path) -> None:
    found = {name: values for name, values in WELL.items() if not name.startswith("up{")}
    assert_firing(tmp_path, found, 30, ["AgiqaDown"])


@pytest.mark.parametrize("series", NO_TROUBLE.values(), ids=NO_TROUBLE)
def test_no_alert_fires_on(tmp_path: Path, series: dict[str, str]) -> None:
    assert_firing(tmp_path, WELL | series, 30, [])


@pytest.mark.parametrize(
    ("per_minute", "mean_now", "expected"),
    [
        pytest.param(10, 0.4, ["AgiqaScoreDrift"], id="down"),
        pytest.param(10, 0.9, ["AgiqaScoreDrift"], id="up"),
        pytest.param(10, 0.65, [], id="hardly"),
        pytest.param(1, 0.4, [], id="of too few images"),
    ],
)
def test_drift_is_reported_when_the_mean_score_moves(
    tmp_path: Path, per_minute: int, mean_now: float, expected: list[str]
) -> None:
    assert_firing(tmp_path, _scores(per_minute, 0.7, mean_now), DAY + 110, expected)


def test_every_alert_has_been_seenassert_firing() -> None:
    assert {*TROUBLE, "AgiqaScoreDrift"} == set(ALERTS)
