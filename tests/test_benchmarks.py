"""The benchmarks run, and what they compare computes the same."""

import pytest

from benchmarks import training
from benchmarks.recipes import paper_recipes
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
