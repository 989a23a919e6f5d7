from pathlib import Path

import numpy as np
import pytest

from training.data.samples import Sample
from training.data.splits import refuse_leaks, split_by_group
from training.errors import LeakError
from training.evaluation import floor
from training.evaluation.metrics import agreement, srcc, srcc_interval, within

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def sample(prompt: str, source: str = "a normal", mos: float = 0.5) -> Sample:
    generator, mode = source.split()
    return Sample("AGIQA-3K", Path("x.jpg"), prompt, mos, mos, prompt, generator, mode)


SAMPLES = [sample(f"prompt {i}", s) for i in range(20) for s in ("a normal", "b lowstep")]


def test_no_prompt_lies_in_two_parts_and_nothing_is_lost() -> None:
    parts = split_by_group(SAMPLES, SHARES, seed=3)
    groups = [{s.group for s in part} for part in parts.values()]
    assert [len(g) for g in groups] == [12, 4, 4]
    assert len(set.union(*groups)) == 20
    assert sum(len(part) for part in parts.values()) == len(SAMPLES)


def test_the_same_seed_draws_the_same_split_whatever_the_order_of_the_rows() -> None:
    one = split_by_group(SAMPLES, SHARES, seed=3)
    other = split_by_group(SAMPLES[::-1], SHARES, seed=3)
    another = split_by_group(SAMPLES, SHARES, seed=4)
    groups = [{s.group for s in parts["test"]} for parts in (one, other, another)]
    assert groups[0] == groups[1] != groups[2]


def test_shares_must_add_up() -> None:
    with pytest.raises(ValueError, match=r"0\.9"):
        split_by_group(SAMPLES, {"train": 0.9}, seed=0)


@pytest.mark.parametrize("twin", ["a dog", "A Dog", " a dog "], ids=["same", "case", "spaces"])
def test_a_prompt_in_two_parts_is_a_leak(twin: str) -> None:
    with pytest.raises(LeakError, match="train and test"):
        refuse_leaks({"train": [sample("a dog")], "test": [sample(twin)]})


def test_the_floor_is_generator_mean_plus_prompt_mean() -> None:
    train = [
        sample("p", "a normal", 0.2),
        sample("q", "a normal", 0.4),
        sample("p", "b normal", 0.6),
        sample("q", "b normal", 0.8),
    ]
    test = [sample("p", "a normal"), sample("unseen", "b normal"), sample("unseen", "new one")]
    assert floor.predict(train, test) == pytest.approx([0.2, 0.7, 0.5])


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
    low, high = srcc_interval(guess, truth)
    assert low < srcc(guess, truth) < high
    assert (low, high) == srcc_interval(guess, truth)


def test_within_looks_inside_each_generator() -> None:
    figures = within(["a", "a", "a", "b", "b", "b"], [1, 2, 3, 3, 2, 1], [1, 2, 3, 4, 5, 6])
    assert figures == {"a": pytest.approx(1.0), "b": pytest.approx(-1.0)}
