"""An evaluation scores many images through the pipeline, as if one after another."""

from pathlib import Path

import numpy as np
import pytest

import model
from model.errors import UnsupportedImage
from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.data.samples import Sample
from training.evaluation.evaluate import _scores, evaluate

# Rounding of float32 sums, of scores in [0, 1].
CLOSE = 2e-6


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return datasets.read(write_agiqa3k(tmp_path, prompts=3))


def test_scores_with_its_own_and_another_prompt_are_those_of_each_image_alone(
    samples: list[Sample],
) -> None:
    scorer = model.load("tiny-clip-agiqa", device="cpu", dtype="float32")
    scored = _scores(scorer, samples)
    order = np.random.default_rng(0).permutation(len(samples))
    columns = (samples, order, scored.own, scored.permuted)
    for sample, other, together, mismatched in zip(*columns, strict=True):
        alone = scorer.score(sample.path, sample.prompt)
        for head in ("quality", "alignment", "consistency"):
            assert getattr(together, head) == pytest.approx(getattr(alone, head), abs=CLOSE)
        another = scorer.score(sample.path, samples[other].prompt).consistency
        assert mismatched == pytest.approx(another, abs=CLOSE)


def test_an_image_that_cannot_be_scored_ends_the_evaluation(samples: list[Sample]) -> None:
    samples[2].path.write_bytes(b"<svg/>")
    scorer = model.load("tiny-clip-agiqa", device="cpu", dtype="float32")
    with pytest.raises(UnsupportedImage):
        evaluate(scorer, {"all": samples}, "all")
