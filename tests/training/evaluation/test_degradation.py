"""Whether quality falls with the strength of a degradation."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from model.scorer import Scorer
from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.data.samples import Sample
from training.evaluation.degradation import STRENGTHS, clean, falls


class Judge:
    """Scores by a rule."""

    def __init__(self, rule: Any) -> None:
        self.rule = rule

    def score(self, image: Image.Image, heads: list[str]) -> Any:
        assert heads == ["quality"]
        return SimpleNamespace(quality=float(self.rule(np.asarray(image, float))))


def judged(rule: Any, samples: list[Sample], *kinds: str) -> Any:
    return falls(cast(Scorer, Judge(rule)), samples, kinds)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return datasets.read(write_agiqa3k(tmp_path_factory.mktemp("data"), prompts=2))[:4]


def test_light_falls_with_darkening_and_rises_with_brightening(samples: list[Sample]) -> None:
    fallen = judged(np.mean, samples, "darkening", "brightening")
    assert fallen.images == 4
    assert fallen.srcc["darkening"] == pytest.approx(-1)
    assert fallen.srcc["brightening"] > 0.8
    assert fallen.quality["darkening"] == sorted(fallen.quality["darkening"], reverse=True)
    assert len(fallen.quality["darkening"]) == 1 + len(STRENGTHS)


def test_noise_is_the_same_at_every_strength_but_for_its_size(samples: list[Sample]) -> None:
    rough = judged(lambda pixels: -np.abs(np.diff(pixels, axis=0)).mean(), samples, "noise")
    assert rough.srcc["noise"] == pytest.approx(-1)


def test_a_judge_that_sees_nothing_does_not_fall(samples: list[Sample]) -> None:
    assert judged(lambda _: 0.5, samples, "blur").srcc == {"blur": 0.0}


def test_the_image_itself_stands_first(samples: list[Sample]) -> None:
    fallen = judged(np.mean, samples, "contrast")
    own = np.mean([np.asarray(Image.open(s.path).convert("RGB")).mean() for s in samples])
    assert fallen.quality["contrast"][0] == pytest.approx(own)


def test_clean_images_are_the_best_rated(tmp_path: Path) -> None:
    rated = datasets.read(write_agiqa3k(tmp_path, prompts=4))
    best = clean(rated, 3)
    assert [s.mos for s in best] == sorted((s.mos for s in rated), reverse=True)[:3]
