"""The queues that are simulated are those of the textbooks, and the paper counts right."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.api.__main__ import Load, Seen, loads, measure, picture, watched
from benchmarks.scaling.__main__ import main as scaling
from benchmarks.scaling.__main__ import queues
from benchmarks.scaling.paper import (
    NETWORKS,
    PEAKS,
    Assumed,
    on_paper,
    price_of_a_million,
)
from benchmarks.scaling.queueing import CHOICES, at_random, least, of_two, simulate
from tests.documents import ROOT

EXPONENTIAL = np.random.default_rng(1).exponential(1.0, 100_000)
CONSTANT = np.ones(1)
ASSUMED = Assumed(efficiency=0.5, decode=0.0035, carried=400.0, price=3.6)


@pytest.mark.parametrize(
    ("times", "load", "wait"),
    # M/M/1 waits load / (1 - load) service times; M/D/1 half of that.
    [(EXPONENTIAL, 0.5, 1.0), (EXPONENTIAL, 0.8, 4.0), (CONSTANT, 0.5, 0.5), (CONSTANT, 0.8, 2.0)],
)
@pytest.mark.parametrize("count", [1, 10])
def test_the_wait_at_random_replicas_is_that_of_one_queue(
    times: np.ndarray, load: float, wait: float, count: int
) -> None:
    waits = simulate(count, times, load, at_random, 200_000).waits
    assert waits.mean() == pytest.approx(wait, rel=0.1)


def test_the_part_of_requests_that_wait_is_the_load() -> None:
    waits = simulate(1, EXPONENTIAL, 0.6, least, 200_000).waits
    assert np.mean(waits > 0) == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("count", [10, 100])
@pytest.mark.parametrize("times", [EXPONENTIAL, np.array([1.0, 2.0, 8.0])])
def test_who_knows_more_waits_less(times: np.ndarray, count: int) -> None:
    p99 = {
        name: simulate(count, times, 0.8, choose, 60_000).p99() for name, choose in CHOICES.items()
    }
    assert p99["least connections"] < p99["two choices"] < p99["random"]


def test_one_replica_leaves_no_choice_and_a_seed_repeats_all() -> None:
    waits = [simulate(1, CONSTANT, 0.7, choose, 5000).waits for choose in (of_two, least)]
    again = simulate(1, CONSTANT, 0.7, of_two, 5000).waits
    assert (waits[0] == again).all()
    assert waits[0].mean() == pytest.approx(waits[1].mean(), rel=0.3)


def test_nobody_waits_for_least_connections_while_a_replica_is_idle() -> None:
    assert not simulate(1000, CONSTANT, 0.5, least, 20_000).waits.any()


def test_the_table_of_queues_has_a_line_for_each_number_of_replicas() -> None:
    lines = queues(CONSTANT, 0.3).splitlines()
    assert lines[0] == "| replicas | random | two choices | least connections |"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["10", "100", "1000"]
    assert "1000 ms, 1.0x" in lines[-1]  # a request takes a second, and none waits


def test_a_gpu_on_paper_does_half_its_peak_and_wants_what_follows() -> None:
    device = on_paper(NETWORKS[0], PEAKS["H100 SXM"], ASSUMED)
    assert device.rows == pytest.approx(989e12 / 2 / 9.52e9)
    assert device.images == pytest.approx(device.rows / 9)
    assert device.crops == pytest.approx(device.rows * 3 * 224 * 224)
    assert device.decoders == pytest.approx(device.images * 0.0035)
    assert device.processes == pytest.approx(device.images / 400)
    assert device.price == pytest.approx(0.001 * 1e6 / device.images)


def test_the_price_is_that_of_the_seconds_that_a_million_images_take() -> None:
    assert price_of_a_million(images=1000.0, price=7.2) == pytest.approx(2.0)


def test_what_a_row_costs_on_paper_is_what_the_page_of_methods_lists() -> None:
    page = (ROOT / "docs/methods.md").read_text()
    for network in NETWORKS:
        found = re.search(
            rf"^\| {network.name} \| {network.backbone} \|.*\| (\d+) x \d+ \| ([\d.]+) G \| (\d+)",
            page,
            re.MULTILINE,
        )
        assert found, network.name
        side, multiply_adds, rows = found.groups()
        assert (int(side), int(rows)) == (network.side, network.rows)
        assert float(multiply_adds) * 1e9 == pytest.approx(network.multiply_adds)


def test_the_table_of_gpus_on_the_page_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scaling(["--only", "paper"])
    printed = capsys.readouterr().out
    assert re.search(r"a core of this CPU: \d+ rows/s", printed)
    page = (ROOT / "docs/scaling.md").read_text()
    lines = [line for line in printed.splitlines() if re.search(r"H100|A100|L4|A10|T4", line)]
    assert len(lines) == (len(NETWORKS) - 1) * len(PEAKS) + 1
    for line in lines:
        assert line in page


def test_what_is_put_in_changes_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    scaling(["--only", "paper", "--decode", "3.5", "--carried", "1000", "--price", "2"])
    line = "| clip-agiqa, ViT-B-32 | H100 SXM | 51,943 | 5,771 | 7.8 | 20.2 | 5.8 | 0.10 |"
    assert line in capsys.readouterr().out


def test_a_profile_shows_its_shares_and_what_a_process_carries() -> None:
    places = {"HTTP": 1.0, "form": 0.5, "JSON": 0.5}
    late = [0.001] * 99 + [0.02]
    seen = Seen(1000, 5.0, 1.5, process=2.0, decoding=3.0, late=late, own=late, places=places)
    rate, lag = seen.lines()
    assert "200 requests/s" in rate
    assert "2.00 ms each (event loop 1.50), decoders 3.00: one process carries 500/s" in rate
    assert "late by p50 1.0, p99 19.8, most 20.0 ms" in lag
    assert seen.shares() == "HTTP 50%, form 25%, JSON 25%"


@pytest.mark.integration
def test_one_api_process_is_measured_with_lanes_that_sleep(tmp_path: Path) -> None:
    livez, _, refused, scored_raw, scored = loads(picture(64))
    with watched(tmp_path, decoders=1) as service:
        for load in (livez, refused, scored_raw, scored):
            seen = measure(service, load, seconds=0.5, clients=4)
            assert seen.answers > 0
            assert 0 < seen.thread <= seen.process
            assert len(seen.late) == len(seen.own) > 0
            assert sum(seen.places.values()) > 0
        with pytest.raises(RuntimeError, match="200"):
            measure(service, Load("unlike", livez.request, 415), seconds=0.1, clients=1)
