"""Own prompt against another: which prompts are compared, ties, and what the shares are of."""

from pathlib import Path

import numpy as np
import pytest

import model
from tests.app import miniatures
from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.data.samples import Sample
from training.evaluation.evaluate import evaluate
from training.evaluation.own_prompt import (
    MOST_OTHERS,
    OtherPrompts,
    own_prompt_shares,
    share_beaten,
)
from training.evaluation.results import OWN_PROMPT, OWN_PROMPT_ALIGNED


def sample(group: str, aligned: float | None = None) -> Sample:
    return Sample("set", Path("a.jpg"), group, 0.5, aligned, group)


def test_prompts_that_differ_by_case_and_spaces_are_one() -> None:
    prompts = OtherPrompts(["A cat", "a  CAT ", "a dog", " a dog", "a boat"])
    others = prompts.of(0, "a cat")
    assert sorted(" ".join(other.split()) for other in others) == ["a boat", "a dog"]


def test_of_many_prompts_the_same_64_others_are_drawn_again() -> None:
    names = [f"prompt {i}" for i in range(300)]
    drawn = OtherPrompts(names).of(7, "prompt 7")
    assert len(set(drawn)) == len(drawn) == MOST_OTHERS
    assert "prompt 7" not in drawn
    assert drawn == OtherPrompts(names).of(7, "prompt 7")
    assert drawn != OtherPrompts(names).of(8, "prompt 8")


def test_ties_count_half() -> None:
    assert share_beaten(0.5, [0.4, 0.5, 0.6, 0.1]) == (1 + 0.5 + 0 + 1) / 4
    assert np.isnan(share_beaten(0.5, []))


def test_the_share_is_the_mean_over_images_and_again_of_those_rated_over_three_of_five() -> None:
    samples = [sample("a", 0.61), sample("a", 0.6), sample("b", 0.9), sample("c", 0.1)]
    shares = own_prompt_shares(samples, [0.9, 0.2, 0.5, 0.4])
    assert shares[OWN_PROMPT].value == pytest.approx(0.5)
    assert shares[OWN_PROMPT_ALIGNED].value == pytest.approx(0.7)
    low, high = shares[OWN_PROMPT].interval
    assert 0.399 < low < 0.5 < high < 0.551  # prompts are drawn whole: a's two images together


def test_without_opinions_there_is_one_share_and_of_one_prompt_there_is_none() -> None:
    assert own_prompt_shares([sample("a"), sample("b")], [1.0, 0.0]).keys() == {OWN_PROMPT}
    assert own_prompt_shares([sample("a")], [float("nan")]) == {}
    assert own_prompt_shares([sample("a", 0.9)], []) == {}


@pytest.mark.parametrize("kind", ["generated_image_model", "prompt_model"])
def test_every_model_with_consistency_is_measured_on_the_scores_that_it_serves(
    kind: str, tmp_path: Path
) -> None:
    folder = getattr(miniatures, kind)(tmp_path / "model")
    scorer = model.load(str(folder), device="cpu", dtype="float32")
    samples = datasets.read(write_agiqa3k(tmp_path / "data", prompts=3, size=300))
    prompts = sorted({s.prompt for s in samples})
    shares = []
    for one in samples:
        own = scorer.score(one.path, one.prompt).consistency
        others = [scorer.score(one.path, p).consistency for p in prompts if p != one.prompt]
        assert own is not None
        shares.append(share_beaten(own, [other or 0.0 for other in others]))
    report = evaluate(scorer, {"all": samples}, "all")
    assert 0 < np.mean(shares) < 1
    assert report.own_prompt[OWN_PROMPT].value == pytest.approx(float(np.mean(shares)))
    assert report.flat_figures[OWN_PROMPT] == report.own_prompt[OWN_PROMPT].value
    assert report.flat_intervals[OWN_PROMPT] == report.own_prompt[OWN_PROMPT].interval
