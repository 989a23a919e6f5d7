from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.config import CropPolicy
from model.preprocess.crops import CropPlanner
from tests.model import tiny
from training.data.samples import Sample
from training.engine.validation import ValidationSet
from training.sampling.pictures import Pictures

POLICY = CropPolicy(size=32, stride=24, max_side=96)
SIZES = [(32, 32), (80, 32), (32, 32), (56, 56), (80, 32)]


def validation_set(folder: Path, *, all_windows: bool) -> ValidationSet:
    samples = []
    for number, size in enumerate(SIZES):
        path = folder / f"{number}.png"
        Image.new("RGB", size, (number * 10, 0, 0)).save(path)
        samples.append(Sample("A", path, path.name, number / 10))
    return ValidationSet(samples, Pictures(POLICY, (1.0,)), all_windows)


@pytest.mark.parametrize("all_windows", [False, True], ids=["middle", "every window"])
def test_every_image_is_scored_once_with_its_own_pixels(tmp_path: Path, all_windows: bool) -> None:
    validation = validation_set(tmp_path, all_windows=all_windows)
    found = {}
    for views in validation.views():
        assert views.wholes is not None
        for row, windows, whole in zip(views.rows, views.windows, views.wholes, strict=True):
            assert (windows[:, 0] == row * 10).all()
            assert whole.shape == (3, 32, 32)
            found[row] = len(windows)
    assert found == ({0: 1, 1: 3, 2: 1, 3: 4, 4: 3} if all_windows else dict.fromkeys(range(5), 1))


def test_processes_share_the_images_and_miss_none(tmp_path: Path) -> None:
    validation = validation_set(tmp_path, all_windows=True)
    shares = [[r for v in validation.views(rank, 2) for r in v.rows] for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(5))
    assert shares[0]
    assert shares[1]


def test_random_windows_are_those_that_scoring_places_over_the_file(tmp_path: Path) -> None:
    samples = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (60, 80, 3), "u1")).save(
            path
        )
        samples.append(Sample("A", path, path.name, number / 10))
    rounds = [CropPolicy.random(32, seed=seed) for seed in range(2)]
    pictures = Pictures(rounds[0], ())
    for policy in rounds:  # which share the pictures
        (views,) = ValidationSet(samples, pictures, True, policy).views()
        planner = CropPlanner(tiny.config_of(crop_policy=policy))
        for row, windows in zip(views.rows, views.windows, strict=True):
            own = planner.for_file(samples[row].path.read_bytes())
            expected = own.crops(Image.open(samples[row].path), ("quality",))
            assert np.array_equal(windows.numpy(), expected)


def test_srcc_is_per_data_set_and_of_the_heads_whose_opinion_it_has(tmp_path: Path) -> None:
    validation = validation_set(tmp_path, all_windows=False)
    measured = validation.srcc({"quality": np.arange(5.0), "alignment": np.arange(5.0)})
    assert measured == {"A": {"quality": pytest.approx(1.0)}}
