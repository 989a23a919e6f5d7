from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training.data.samples import Sample
from training.errors import TrainingError
from training.recipe import MethodRecipe, load_recipe
from training.sampling.order import Order

# The sets of LIQE, with some 70 % of their images.
SIZES = {
    "LIVE": 545,
    "CSIQ": 606,
    "BID": 410,
    "LIVE-Challenge": 813,
    "KonIQ-10k": 7058,
    "KADID-10k": 7125,
}


def samples_of(sizes: dict[str, int]) -> list[Sample]:
    return [
        Sample(name, Path(f"{name}/{i}"), str(i), mos=0.5)
        for name, count in sizes.items()
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def six_sets() -> MethodRecipe:
    settings = [f"{kind}.{name}=somewhere" for kind in ("data", "labels") for name in SIZES]
    recipe = load_recipe("liqe/six-sets", settings)
    assert isinstance(recipe, MethodRecipe)
    return recipe


def test_every_step_of_liqe_s_recipe_holds_its_images_of_each_of_the_six_sets(
    six_sets: MethodRecipe,
) -> None:
    schedule, samples = six_sets.schedule, samples_of(SIZES)
    order = Order(samples, schedule.batch, schedule.steps, schedule.quotas)
    assert len(order) * schedule.epochs == 16_000
    wanted = {"LIVE": 4, "CSIQ": 4, "BID": 4, "LIVE-Challenge": 4, "KonIQ-10k": 16, "KADID-10k": 16}
    epoch = order.epoch(seed=0, number=3)
    assert epoch.shape == (200, 48)
    for step in epoch:
        assert Counter(samples[i].dataset for i in step) == wanted
        assert len(set(step)) == 48
    # 800 images of LIVE are drawn from 545: one pass and a part of a second one.
    live = Counter(i for i in epoch.ravel() if samples[i].dataset == "LIVE")
    assert set(live.values()) == {1, 2}


def test_without_quotas_an_epoch_is_one_pass_as_it_always_was() -> None:
    order = Order(samples_of({"LIVE": 23}), 5)
    expected = np.random.default_rng((7, 2)).permutation(23)[:20].reshape(4, 5)
    assert np.array_equal(order.epoch(7, 2), expected)
    assert len(order) == 4


def test_more_steps_than_a_pass_has_go_round_again_in_another_order() -> None:
    order = Order(samples_of({"LIVE": 23}), 5, steps=10)
    first, second, rest = np.split(order.epoch(0, 0), [4, 8])
    assert len(set(first.ravel())) == len(set(second.ravel())) == 20
    assert not np.array_equal(first, second)
    assert rest.shape == (2, 5)
    assert np.array_equal(order.epoch(0, 0)[:4], first)
    assert not np.array_equal(order.epoch(0, 1)[:4], first)


def test_a_set_that_is_smaller_than_its_quota_is_named_with_the_setting() -> None:
    samples = samples_of({"LIVE": 8, "CSIQ": 3})
    says = r"CSIQ has 3 training images, and every step takes 4: set schedule\.quotas\.CSIQ lower"
    with pytest.raises(TrainingError, match=says):
        Order(samples, 8, 10, {"LIVE": 4, "CSIQ": 4})
    with pytest.raises(TrainingError, match=r"there are 11 .* takes 12: set schedule\.batch lower"):
        Order(samples, 12, 10)
