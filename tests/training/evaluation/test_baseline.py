from pathlib import Path

import numpy as np
import pytest

from training.data.samples import Sample
from training.evaluation.baseline import predict_baseline
from training.evaluation.metrics import agreement, interval, srcc, within


def sample(prompt: str, source: str = "a normal", mos: float = 0.5) -> Sample:
    generator, mode = source.split()
    return Sample("AGIQA-3K", Path("x.jpg"), prompt, mos, mos, prompt, generator, mode)


def test_the_baseline_is_generator_mean_plus_prompt_mean() -> None:
    train = [
        sample("p", "a normal", 0.2),
        sample("q", "a normal", 0.4),
        sample("p", "b normal", 0.6),
        sample("q", "b normal", 0.8),
    ]
    test = [sample("p", "a normal"), sample("unseen", "b normal"), sample("unseen", "new one")]
    assert predict_baseline(train, test) == pytest.approx([0.2, 0.7, 0.5])


def test_agreement_of_known_lists() -> None:
    figures = agreement([1, 2, 3, 4], [1, 3, 2, 4])
    assert figures["srcc"] == pytest.approx(0.8)
    assert figures["plcc"] == pytest.approx(0.8)
    assert figures["krcc"] == pytest.approx(2 / 3)
    assert figures["rmse"] == pytest.approx(np.sqrt(0.5))


def test_the_bootstrap_interval_holds_the_figure_and_is_reproducible() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(100)
    guess = truth + rng.normal(0, 0.2, 100)
    low, high = interval(srcc, guess, truth)
    assert low < srcc(guess, truth) < high
    assert (low, high) == interval(srcc, guess, truth)


def test_within_looks_inside_each_generator() -> None:
    figures = within(["a", "a", "a", "b", "b", "b"], [1, 2, 3, 3, 2, 1], [1, 2, 3, 4, 5, 6])
    assert figures == {"a": pytest.approx(1.0), "b": pytest.approx(-1.0)}
