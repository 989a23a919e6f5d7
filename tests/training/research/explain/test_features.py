"""Semantic features of images, and their t-SNE."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.model import tiny
from tests.training.miniature import write_live_challenge
from tests.training.research.explain.subjects import METHODS, network_of, scorer_of, subject_of
from training.errors import DataError
from training.research.explain.features import (
    embed,
    samples_of,
    semantic_feature,
    semantic_features,
)

PICTURE = tiny.picture(400, 260)


@pytest.mark.parametrize("name", [n for n in METHODS if not n.startswith("mp-iqe")])
def test_the_feature_of_an_image_is_the_normalised_mean_of_its_rows(name: str) -> None:
    scorer = scorer_of(name)
    rows = torch.from_numpy(scorer.rows(PICTURE, scorer.plan(*PICTURE.size, ("quality",))))
    assert rows.shape == (7, 16)
    wanted = F.normalize(rows.mean(0), dim=0).numpy()
    assert semantic_feature(subject_of(name), PICTURE) == pytest.approx(wanted, abs=1e-6)


def test_mp_iqes_feature_is_what_scenes_are_told_from() -> None:
    """The class token through CLIP's frozen projection (Eq. 3, 8)."""
    network, subject = network_of("mp-iqe"), subject_of("mp-iqe")
    pixels = subject.crops(PICTURE, "quality").pixels
    with torch.no_grad():
        cls = network.tokens(pixels)[:, 0] @ network.vision.visual.proj
        wanted = F.normalize(F.normalize(cls, dim=-1).mean(0), dim=0).numpy()
    assert semantic_feature(subject, PICTURE) == pytest.approx(wanted, abs=1e-6)


def test_features_come_in_the_order_of_the_samples(tmp_path: Path) -> None:
    subject = subject_of("clip-agiqa")
    samples = samples_of(subject, write_live_challenge(tmp_path, images=5), "all")
    features = semantic_features(subject, samples[::-1])
    assert features.shape == (5, 16)
    assert np.array_equal(features[0], semantic_feature(subject, samples[-1].path))
    assert len(np.unique(features, axis=0)) == 5


def test_a_part_of_a_set_that_the_checkpoint_did_not_split_is_refused(tmp_path: Path) -> None:
    folder = write_live_challenge(tmp_path, images=5)
    with pytest.raises(DataError, match="does not say how its training data was split"):
        samples_of(subject_of("clip-agiqa"), folder, "test")


def clusters(each: int) -> np.ndarray:
    """Two groups of features far apart."""
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(8)[:2] * 5, each, axis=0)
    return (centres + rng.normal(0, 0.1, centres.shape)).astype(np.float32)


def test_the_same_features_and_seed_give_the_same_points() -> None:
    features = clusters(40)
    first = embed(features)
    assert first.shape == (80, 2)
    assert np.array_equal(first, embed(features))
    assert not np.array_equal(first, embed(features[::-1]))


def test_neighbours_stay_neighbours() -> None:
    points = embed(clusters(40))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(80)
    assert ((distances.argmin(1) < 40) == (np.arange(80) < 40)).all()


@pytest.mark.parametrize("count", [4, 5, 20])
def test_few_images_have_few_neighbours(count: int) -> None:
    points = embed(clusters(10)[:count])
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_three_images_are_too_few() -> None:
    with pytest.raises(DataError, match="at least 4 images; these are 3"):
        embed(clusters(10)[:3])
