from pathlib import Path

import pytest

from training.data.samples import Sample
from training.errors import LeakError
from training.splits import leakage


def sample(group: str, dataset: str = "A") -> Sample:
    return Sample(dataset, Path(f"{group}.jpg"), group, 0.5)


def test_what_was_learned_from_is_told_on_any_copy_of_the_set() -> None:
    trained = {"A": leakage.digests(["a cat", "a dog"])}
    samples = [sample("A Cat "), sample("a fish"), sample("a dog", "B")]
    assert leakage.among(samples, trained) == samples[:1]


def test_digests_of_several_models_are_joined_by_data_set() -> None:
    one, other = (
        {"A": leakage.digests(["x"])},
        {"A": leakage.digests(["x", "y"]), "B": leakage.digests("z")},
    )
    both = leakage.joined(one, other)
    assert both == {"A": leakage.digests(["y", "x"]), "B": leakage.digests(["z"])}
    assert len(both["A"]) == 16


def test_a_leak_is_counted_and_named_with_its_remedy() -> None:
    trained = {"A": leakage.digests(["x"])}
    samples = [sample("y"), sample("x"), sample("x")]
    with pytest.raises(LeakError, match=r"2 of the 3 images of the test part .*'x' first: do so"):
        leakage.refuse(samples, trained, "the test part", "do so")
    leakage.refuse(samples[:1], trained, "the test part", "do so")
