"""Random windows that hang on the image's file: every way of scoring it places the same ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.config import CropPolicy
from model.pipeline import Computed, Pipeline
from model.preprocess.crops import CropPlanner
from model.preprocess.windows import for_file, place_windows
from model.scorer import Scorer
from tests.model import tiny

SIZE = (400, 300)
BY_FILE = CropPolicy.random()
BY_SIZE = CropPolicy(kind="random", max_windows=8)


def scorer_of(policy: CropPolicy) -> Scorer:
    config = tiny.config_of(crop_policy=policy)
    return Scorer(config, tiny.random_network(), device="cpu", dtype="float32")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Six photographs of one size."""
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        tiny.picture(*SIZE, seed=number).save(path)
    return paths


def windows(policy: CropPolicy, data: bytes) -> tuple[tuple[int, int], ...]:
    layout = CropPlanner(tiny.config_of(crop_policy=policy)).for_file(data).plan(*SIZE)
    return tuple(layout.grid.windows)


def test_every_image_of_a_size_is_looked_at_in_places_of_its_own(files: list[Path]) -> None:
    placed = [windows(BY_FILE, file.read_bytes()) for file in files]
    assert {len(corners) for corners in placed} == {8}
    assert len(set(placed)) == len(files)
    assert placed == [windows(BY_FILE, file.read_bytes()) for file in files]


def test_another_round_places_other_windows_over_the_same_file(files: list[Path]) -> None:
    data = files[0].read_bytes()
    rounds = {windows(CropPolicy.random(seed=seed), data) for seed in range(10)}
    assert len(rounds) == 10


def test_files_that_differ_in_their_ends_or_length_are_told_apart() -> None:
    whole = bytes(range(256)) * 2000
    others = [whole, whole + b"\0", b"\1" + whole[1:], whole[:-1] + b"\0"]
    assert len({windows(BY_FILE, data) for data in others}) == 4


def test_a_checkpoint_of_before_scores_in_the_places_it_always_did(files: list[Path]) -> None:
    """Its policy states no ``seeded_by``."""
    policy = CropPolicy.model_validate({"kind": "random", "max_windows": 8, "seed": 3})
    rng = np.random.default_rng((3, *SIZE))
    across = rng.integers(0, 177, 8).tolist()
    down = rng.integers(0, 77, 8).tolist()
    for file in files:
        assert windows(policy, file.read_bytes()) == tuple(zip(across, down, strict=True))
    assert for_file(policy, b"any") is policy


def test_scorer_and_pipeline_cut_the_same_windows_of_a_file(files: list[Path]) -> None:
    scorer = scorer_of(BY_FILE)
    alone = [scorer.score(file, heads=("quality",)).quality for file in files]
    assert [scorer.score(f.read_bytes(), heads=("quality",)).quality for f in files] == alone
    computed = [c for _, c in Pipeline(scorer).compute([(f, None) for f in files], ("quality",))]
    for file, one, score in zip(files, computed, alone, strict=True):
        assert isinstance(one, Computed)
        assert tuple(one.layout.grid.windows) == windows(BY_FILE, file.read_bytes())
        assert scorer.reduce(one.rows, one.layout).quality == pytest.approx(score, abs=1e-5)
        corners = windows(BY_FILE, file.read_bytes())
        pixels = np.asarray(Image.open(file))
        cut = [pixels[y : y + 224, x : x + 224].transpose(2, 0, 1) for x, y in corners]
        assert np.array_equal(scorer.crops(file, ("quality",)), np.stack(cut))


def test_pixels_without_a_file_have_the_places_of_their_size(files: list[Path]) -> None:
    pixels = np.asarray(Image.open(files[0]))
    expected = scorer_of(BY_SIZE).crops(pixels, ("quality",))
    assert np.array_equal(scorer_of(BY_FILE).crops(pixels, ("quality",)), expected)
    assert place_windows(BY_FILE, *SIZE) == place_windows(BY_SIZE, *SIZE)
