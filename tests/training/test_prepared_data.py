"""The runs that prepared data make: how many steps they take."""

from pathlib import Path

import pytest

from tests.training.engine.regression import Regression
from training.data.samples import Sample
from training.engine.loop import Run
from training.prepared_data import PreparedData
from training.recipe import MethodRecipe, Stage, load_recipe
from training.sampling.pictures import Pictures

# 80 % of LIVE Challenge.
IMAGES = 930


def live_challenge(*settings: str) -> Run:
    """MP-IQE's run on made-up photographs; none is opened."""
    places = ("data.LIVE-Challenge=x", "labels.LIVE-Challenge=x")
    recipe = load_recipe("mp-iqe/live-challenge", [*places, *settings])
    assert isinstance(recipe, MethodRecipe)
    train = [Sample("LIVE-Challenge", Path(f"{i}.jpg"), f"{i}", 0.5) for i in range(IMAGES)]
    parts = {"LIVE-Challenge": {"train": train, "validation": []}}
    prepared = PreparedData(parts, Pictures(recipe.crop_policy, ()), "")
    stage = Stage(name="line", data={"LIVE-Challenge": 1}, schedule=recipe.schedule)
    return prepared.run(recipe, stage, Regression(), seed=0)


@pytest.mark.parametrize(
    ("settings", "steps", "crops"),
    [((), 3480, 1), (("schedule.windows=8", "schedule.repeats=1"), 420, 8)],
    ids=["crops are samples", "all crops in one step"],
)
def test_mp_iqe_on_live_challenge_takes_the_steps_of_either_reading(
    settings: tuple[str, ...], steps: int, crops: int
) -> None:
    run = live_challenge(*settings)
    assert len(run.batches) * run.schedule.epochs == steps
    assert (run.batches.size, run.batches.windows) == (64, crops)


def test_an_epoch_visits_every_image_as_often_as_the_schedule_says() -> None:
    visited = live_challenge("schedule.repeats=3").batches.samples
    assert len(visited) == 3 * IMAGES
    assert len({sample.path for sample in visited}) == IMAGES


def test_a_run_that_lacked_memory_goes_on_in_parts() -> None:
    fingerprint = live_challenge().fingerprint
    less = live_challenge("schedule.accumulate=2", "schedule.checkpoint_activations=true")
    assert less.fingerprint == fingerprint
    assert live_challenge("schedule.batch=32").fingerprint != fingerprint
