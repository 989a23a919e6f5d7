"""What a table will take."""

from pathlib import Path

import pytest

from training.recipe import MethodRecipe, load_recipe
from training.research.reproduce.catalogue import TABLES
from training.research.reproduce.cost import Cost, Counts
from training.research.reproduce.jobs import Reproduction, jobs_of
from training.research.reproduce.plan import plan
from training.research.reproduce.reproduce import planned

COST = Cost(step=36e12, validation=0, memory=2**30, learned=14_410_000)


def lines_of(table: str, tmp_path: Path) -> list[str]:
    reproduction = Reproduction(TABLES[table], tmp_path / "data", tmp_path / "out")
    return list(planned(reproduction, tflops=100, counter=lambda _: COST))


def figures(lines: list[str], start: str) -> list[str]:
    (line,) = [line for line in lines if line.startswith(f"  {start}")]
    return line[46:].split()


def test_a_plan_needs_no_data_and_says_where_each_set_goes(tmp_path: Path) -> None:
    lines = lines_of("mp-iqe-4", tmp_path)
    text = "\n".join(lines)
    assert f"MISSING  CSIQ, 866 images: {tmp_path / 'data' / 'CSIQ'} (csiq_label.txt" in text
    assert f"MISSING  LIQE's label files: {tmp_path / 'data' / 'IQA_Database'}" in text
    assert "backbone ViT-B-16-quickgelu: open_clip's openai" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("clip-agiqa", 20),
        ("mp-iqe-1", 60),
        ("mp-iqe-2", 42),
        ("mp-iqe-3", 40),
        ("mp-iqe-5", 80),
        ("mp-iqe-6", 160),
        ("liqe", 10),
    ],
)
def test_ten_rounds_of_every_row_are_counted(table: str, cells: int, tmp_path: Path) -> None:
    assert figures(lines_of(table, tmp_path), "all")[:2] == [str(cells), "0"]


def test_hours_are_steps_times_work_at_the_stated_rate(tmp_path: Path) -> None:
    steps, hours = figures(lines_of("clip-agiqa", tmp_path), "rounds clip-agiqa/agiqa-3k")[2:4]
    assert float(hours) == pytest.approx(int(steps.replace(",", "")) * 36e12 / 100e12 / 3600, 0.01)


def test_all_cells_keep_their_checkpoints_and_one_state(tmp_path: Path) -> None:
    """Of 14.41 million parameters: 30 MB a cell, where its state would add 288."""
    lines = lines_of("clip-agiqa-ablation", tmp_path)
    cells, *_, disk = figures(lines, "prompt-length clip-agiqa/agiqa-3k")
    assert float(disk) < 0.035 * int(cells)
    total, *_, whole = figures(lines, "all")
    each = 2 * COST.learned + 2 * 2**20
    assert float(whole) * 2**30 == pytest.approx(int(total) * each + 20 * COST.learned, rel=0.01)


def test_recipes_that_differ_in_schedule_alone_are_counted_once(tmp_path: Path) -> None:
    counts = Counts()
    small, large = (
        counts(recipe_with(tmp_path, f"schedule={{epochs: 1, batch: {batch}}}")) for batch in (2, 6)
    )
    assert len(counts._known) == 1
    assert large.learned == small.learned
    assert 1 < large.step / small.step <= 3
    assert 1 < large.memory / small.memory <= 3


def recipe_with(folder: Path, *settings: str) -> MethodRecipe:
    recipe = load_recipe(
        "tiny-mpiqe",
        [f"data.LIVE-Challenge={folder}", "backbone=tiny-backbone", *settings],
    )
    assert isinstance(recipe, MethodRecipe)
    return recipe


def test_across_sets_no_epoch_is_chosen_on_a_test_part(tmp_path: Path) -> None:
    reproduction = Reproduction(TABLES["mp-iqe-3"], tmp_path, tmp_path / "out")
    assert {job.base.protocol for job in jobs_of(reproduction)} == {"clean"}
    reproduction = Reproduction(TABLES["mp-iqe-1"], tmp_path, tmp_path / "out")
    assert {job.base.protocol for job in jobs_of(reproduction)} == {"paper"}
    assert list(plan(reproduction, jobs_of(reproduction), lambda _: COST, 1))


def test_weights_replace_the_download_of_their_architecture_alone(tmp_path: Path) -> None:
    weights = {"RN50-quickgelu": tmp_path / "RN50.pt"}
    reproduction = Reproduction(TABLES["mp-iqe-2"], tmp_path, tmp_path / "out", weights=weights)
    sources = {job.part.recipe: job.base.backbone.source for job in jobs_of(reproduction)}
    assert sources["clip-iqa-plus/koniq-10k"] == "file"
    assert sources["mp-iqe/koniq-10k"] == "open_clip"
