"""The benchmarks run, and what they compare computes the same."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import neighbours, share, training
from benchmarks.overload.__main__ import neighbour
from benchmarks.overload.machine import Machine
from benchmarks.overload.measure import overloaded
from benchmarks.overload.plot import Point, write
from benchmarks.overload.rules import RULES, CoDel
from benchmarks.overload.service import Request
from benchmarks.recipes import paper_recipes
from benchmarks.stages import STAGES, stages_of, svg
from model.clip.backbone import build
from training.research.reproduce.cost import random_task
from training.run import memory_of


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_agrees_with_the_published_recipe(
    capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    arguments = ["--small", "--batch", "6", "--steps", "3", "--device", "cpu"]
    assert training.main([*arguments, "--precision", precision]) == 0
    printed = capsys.readouterr().out
    assert "losses agree" in printed
    assert f"ours, {precision}, with consistency" in printed
    assert "a step is faster by" in printed


def test_losses_that_differ_are_told_and_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(training.PAPER, "alignment", 0.2)
    arguments = ["--small", "--batch", "6", "--steps", "2", "--device", "cpu", "--no-consistency"]
    assert training.main([*arguments, "--precision", "fp32"]) == 1
    assert "losses DON'T AGREE" in capsys.readouterr().out


def test_the_share_of_the_matrix_rate_counts_the_towers_products() -> None:
    clip: Any = build(training.SMALL).eval()
    (network,) = training.networks(clip, 1)
    with torch.inference_mode():
        printed = share.line(network.eval().fold(), 2, 1)
    assert printed.startswith("both passes")
    kinds, tera = share.bare(clip.visual.transformer.resblocks[0], 10)
    assert kinds
    assert tera == 2 * 10 * 12 * 32**2 / 1e12  # four products of a layer, 32 wide


@pytest.mark.slow
def test_every_recipe_of_the_papers_runs_in_22_gib() -> None:
    """Those that differ in the name of their data alone are looked at once."""
    settings = {
        (r.method, str(r.options), str(r.weights), r.schedule.model_dump_json()): r
        for r in paper_recipes()
    }
    assert len(settings) >= 5
    for recipe in settings.values():
        memory = memory_of(recipe, random_task(recipe)).of(recipe.schedule)
        assert memory.total < 22 * 2**30, recipe.name


def test_simulated_overload_is_the_same_each_time_and_tells_the_rules_apart() -> None:
    machine = Machine(pace=neighbour)
    found = {}
    for rule in RULES:
        twice = [overloaded(rule, machine, Request(0.0), 50.0, 30.0) for _ in range(2)]
        assert twice[0] == twice[1]
        found[rule.name] = twice[0]
    assert found["agiqa"].late <= 0.01
    assert found["0.5.0"].late > 0.2
    assert found["0.5.0"].goodput > 0.4  # it served half of the capacity, and more
    assert found["agiqa"].p99 < min(found["0.5.0"].p99, found["CoDel"].p99)
    assert found["agiqa"].goodput > found["0.5.0"].goodput


def test_codel_drops_ever_faster_while_the_delay_stays_over_its_target() -> None:
    codel = CoDel()
    times = [0.01 * step for step in range(1, 1000)]
    drops = [now for now in times if codel.drops(0.5, now)]
    assert drops[0] == pytest.approx(1.0, abs=0.03)  # an interval over the target
    gaps = [later - sooner for sooner, later in itertools.pairwise(drops)]
    assert gaps[0] == pytest.approx(1.0, abs=0.03)
    assert gaps[3] == pytest.approx(0.5, abs=0.03)  # 1 / sqrt(4)
    assert not codel.drops(0.05, 10.0)
    assert not codel.drops(0.5, 10.5)


def test_the_plots_of_overload_are_written_with_the_measured_points(tmp_path: Path) -> None:
    write(tmp_path, {"agiqa": [Point(0.5, 0.5, 0.1), Point(20.0, 0.9, 0.4)]})
    for name in ("goodput", "p99"):
        svg = (tmp_path / f"overload-{name}.svg").read_text()
        assert "agiqa" in svg
        assert "measured" in svg


def test_settings_of_openmp_are_measured_beside_busy_loops(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "not a number")  # would be complained of
    settings = ["default", "one thread"]
    arguments = ["--rows", "1,2", "--loops", "0,1", "--seconds", "0.01"]
    neighbours.main([*arguments, "--settings", ",".join(settings)])
    printed, complaints = capfd.readouterr()
    table = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in table]
    assert cells[0] == ["setting", "busy loops", "1 rows", "2 rows"]
    assert [row[:2] for row in cells[2:]] == [[name, loops] for loops in "01" for name in settings]
    assert all(int(rate) > 0 for row in cells[2:] for rate in row[2:])
    assert not complaints


def test_a_setting_of_openmp_that_is_not_known_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        neighbours.main(["--settings", "default,spinning"])
    assert "spinning: known are default, " in capsys.readouterr().err


def test_the_stages_of_an_answer_are_read_whatever_else_is_said_of_them() -> None:
    found = stages_of("read;dur=1.5, cache;desc=hit;dur=2.0, inference;dur=30.0")
    assert found == {"read": 1.5, "cache": 2.0, "inference": 30.0}


def test_the_bar_of_stages_is_as_long_for_a_short_way_as_for_a_long_one() -> None:
    short = dict.fromkeys(STAGES, 1.0)
    drawn = svg({"alone": short, "16 clients": {s: 100 * ms for s, ms in short.items()}}).decode()
    widths = [float(w) for w in re.findall(r'class="\w+" [^>]* width="([\d.]+)"', drawn)]
    bars = [w for w in widths if w < 200]
    assert len(bars) == 2 * len(STAGES)
    assert len(set(bars)) == 1
    assert "600 ms" in drawn
