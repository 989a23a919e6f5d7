import random
from pathlib import Path

import pytest

from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.data.samples import Sample
from training.errors import DataError, LeakError
from training.splits.groups import (
    official,
    paper_rounds,
    refuse_leaks,
    split_by_group,
    without_generator,
)

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def sample(prompt: str, generator: str = "a", part: str = "") -> Sample:
    return Sample(
        "AGIQA-3K", Path("x.jpg"), prompt, 0.5, prompt=prompt, generator=generator, part=part
    )


def groups(samples: list[Sample]) -> set[str]:
    return {s.group for s in samples}


SAMPLES = [sample(f"Prompt {i}", generator) for i in range(20) for generator in "ab"]


def test_no_prompt_lies_in_two_parts_and_nothing_is_lost() -> None:
    parts = split_by_group(SAMPLES, SHARES, seed=3)
    drawn = [groups(part) for part in parts.values()]
    assert [len(g) for g in drawn] == [12, 4, 4]
    assert len(set.union(*drawn)) == 20
    assert sum(len(part) for part in parts.values()) == len(SAMPLES)


def test_the_same_seed_draws_the_same_split_whatever_the_order_of_the_rows() -> None:
    one = split_by_group(SAMPLES, SHARES, seed=3)
    other = split_by_group(SAMPLES[::-1], SHARES, seed=3)
    another = split_by_group(SAMPLES, SHARES, seed=4)
    drawn = [groups(parts["test"]) for parts in (one, other, another)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_draw_of_a_seed_stays_as_it_was_when_the_bundled_models_were_trained() -> None:
    parts = split_by_group(SAMPLES, SHARES, seed=3)
    order = sorted(groups(SAMPLES))
    random.Random(3).shuffle(order)
    assert [groups(part) for part in parts.values()] == [
        set(order[:12]),
        set(order[12:16]),
        set(order[16:]),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_pinned_groups_train_and_the_parts_keep_their_sizes(seed: int) -> None:
    pinned = {f" prompt {i}" for i in range(10)} | {"of another set"}
    parts = split_by_group(SAMPLES, SHARES, seed, pinned)
    assert {f"Prompt {i}" for i in range(10)} < groups(parts["train"])
    assert [len(groups(part)) for part in parts.values()] == [12, 4, 4]
    assert sum(len(part) for part in parts.values()) == len(SAMPLES)


def test_groups_that_are_pinned_elsewhere_change_no_draw() -> None:
    assert split_by_group(SAMPLES, SHARES, 3, {"of another set"}) == split_by_group(
        SAMPLES, SHARES, 3
    )


def test_too_many_pinned_groups_are_counted() -> None:
    with pytest.raises(DataError, match=r"13 of the 20 groups .* leaves 7; the other parts take 8"):
        split_by_group(SAMPLES, SHARES, 0, {f"prompt {i}" for i in range(13)})
    with pytest.raises(DataError, match="leaves 19; the other parts take 20"):
        split_by_group(SAMPLES, {"test": 1.0}, 0, {"prompt 1"})


@pytest.mark.parametrize("twin", ["a dog", "A Dog", " a dog "], ids=["same", "case", "spaces"])
def test_a_prompt_in_two_parts_is_a_leak(twin: str) -> None:
    with pytest.raises(LeakError, match="train and test"):
        refuse_leaks({"train": [sample("a dog")], "test": [sample(twin)]})


def test_a_random_split_by_image_of_a_set_with_prompts_ends_as_a_leak(tmp_path: Path) -> None:
    samples = datasets.read(write_agiqa3k(tmp_path, prompts=8))
    random.Random(0).shuffle(samples)
    cut = round(0.8 * len(samples))
    with pytest.raises(LeakError, match="split by content"):
        refuse_leaks({"train": samples[:cut], "test": samples[cut:]})


def paper_samples(prompts: int = 300) -> list[Sample]:
    return [sample(f"prompt {i:03}", generator) for i in range(prompts) for generator in "ab"]


def test_the_rounds_of_the_paper_are_cumulative_shuffles_of_seed_ten() -> None:
    samples = paper_samples()
    random.seed(10)
    order = list(range(300))
    for number in range(3):
        random.shuffle(order)
        parts = paper_rounds(samples, number)
        assert groups(parts["test"]) == {f"prompt {i:03}" for i in order[240:]}
        assert [len(part) for part in parts.values()] == [480, 120]


def test_the_rounds_of_the_paper_need_all_its_prompts() -> None:
    with pytest.raises(DataError, match="299 are here: draw rounds of your own"):
        paper_rounds(paper_samples(299), 0)


def test_the_rounds_of_aigciqa2023_go_by_the_number_of_the_prompt() -> None:
    samples = [
        Sample("AIGCIQA2023", Path(f"{n}.png"), prompt, 0.5, prompt=prompt)
        for n in range(2400)
        for prompt in [f"prompt {(7 * (n % 400 // 4)) % 100}"]  # not in the order of their names
    ]
    random.seed(10)
    order = list(range(100))
    for number in range(3):
        random.shuffle(order)
        parts = paper_rounds(samples[::-1], number)
        tested = {int(s.path.stem) % 400 // 4 for s in parts["test"]}
        assert tested == set(order[80:])
        assert [len(part) for part in parts.values()] == [1920, 480]


def test_a_set_or_a_round_that_the_paper_does_not_have_is_named() -> None:
    with pytest.raises(DataError, match=r"no rounds of B, only of AGIQA-3K and AIGCIQA2023"):
        paper_rounds([Sample("B", Path("x.jpg"), "a dog", 0.5)], 0)
    with pytest.raises(DataError, match="rounds 0 to 9, not 10"):
        paper_rounds(paper_samples(), 10)


def test_the_official_parts_are_the_sets_own_in_their_usual_order() -> None:
    samples = [sample("a", part="test"), sample("b", part="extra"), sample("c", part="train")]
    assert official(samples) == {"train": samples[2:], "test": samples[:1], "extra": samples[1:2]}


def test_a_set_without_official_parts_has_no_official_split() -> None:
    with pytest.raises(DataError, match="1 of the 2 images have no part"):
        official([sample("a", part="test"), sample("b")])


def test_a_generator_that_is_left_out_is_tested_and_nothing_else_is() -> None:
    drawn = split_by_group(SAMPLES, SHARES, seed=3)
    parts = without_generator(drawn, "b")
    assert {name: {s.generator for s in part} for name, part in parts.items()} == {
        "train": {"a"},
        "validation": {"a"},
        "test": {"b"},
    }
    for name, part in parts.items():
        assert groups(part) == groups(drawn[name])


def test_an_unknown_generator_is_told_the_known_ones() -> None:
    parts = split_by_group(SAMPLES, SHARES, seed=3)
    with pytest.raises(DataError, match="'DALLE3'; the generators here are a, b"):
        without_generator(parts, "DALLE3")
    with pytest.raises(DataError, match="test part has no image by b"):
        without_generator({"train": [sample("x", "b")], "test": [sample("y", "a")]}, "b")
