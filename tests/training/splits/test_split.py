from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from training.data.samples import Sample
from training.errors import DataError, LeakError
from training.splits.split import Parts, Split, draw, seen_groups

GENERATORS = ("AttnGAN", "Glide")


def generated(prompts: int = 20) -> list[Sample]:
    return [
        Sample("A", Path(f"{g}-{n}.jpg"), f"prompt {n}", 0.5, generator=g, prompt=f"prompt {n}")
        for n in range(prompts)
        for g in GENERATORS
    ]


def groups(parts: Parts) -> dict[str, set[str]]:
    return {part: {s.group for s in samples} for part, samples in parts.items()}


def test_shares_are_of_the_prompts_and_none_lies_in_two_parts() -> None:
    drawn = groups(draw(Split(), generated()))
    assert {part: len(g) for part, g in drawn.items()} == {"train": 15, "validation": 2, "test": 3}
    assert len(set().union(*drawn.values())) == 20


def test_without_a_validation_part_training_gives_some_of_its_prompts() -> None:
    split = Split(shares={"train": 0.8, "test": 0.2}, inner=0.25)
    drawn = groups(draw(split, generated()))
    assert {part: len(g) for part, g in drawn.items()} == {"train": 12, "validation": 4, "test": 4}
    assert (
        drawn["test"] == groups(draw(split.model_copy(update={"inner": 0.5}), generated()))["test"]
    )


def test_without_an_inner_part_all_but_the_test_part_trains() -> None:
    split = Split(shares={"train": 0.8, "test": 0.2}, inner=0)
    drawn = groups(draw(split, generated()))
    assert {part: len(g) for part, g in drawn.items()} == {"train": 16, "test": 4}
    assert Split.of_provenance(split.model_dump()) == split


def test_where_other_sets_are_the_test_all_but_the_inner_part_trains() -> None:
    parts = draw(Split(shares={"train": 1.0, "test": 0.0}), generated())
    assert {part: len(g) for part, g in groups(parts).items()} == {
        "train": 18,
        "validation": 2,
        "test": 0,
    }


def test_an_official_split_without_a_validation_part_says_what_to_do() -> None:
    samples = [
        replace(s, group=s.path.name, part=part)
        for s, part in zip(generated(1), ("train", "test"), strict=True)
    ]
    with pytest.raises(DataError, match="leaves no image to validation: draw one"):
        draw(Split(kind="official", inner=0), samples)


def test_the_test_part_stays_when_training_gets_less() -> None:
    shares = [{"test": 0.2, "train": t, "unused": 0.8 - t} for t in (0.2, 0.4)]
    less, more = (groups(draw(Split(shares=s), generated())) for s in shares)
    assert less["test"] == more["test"]
    assert less["train"] | less["validation"] < more["train"] | more["validation"]


def test_what_a_backbone_saw_trains_under_every_seed() -> None:
    own = Split(seed=3)
    known = seen_groups(own, generated())
    tests = []
    for seed in range(6):
        drawn = groups(draw(Split(seed=seed, pinned=own), generated()))
        assert known == drawn["train"]
        tests.append(frozenset(drawn["test"]))
    assert len(set(tests)) > 1


def test_too_little_that_a_backbone_has_not_seen_is_an_error_with_numbers() -> None:
    own = Split(shares={"train": 0.9, "validation": 0.05, "test": 0.05})
    with pytest.raises(DataError, match="18 of the 20 groups are pinned"):
        draw(Split(pinned=own), generated())
    inner = Split(shares={"train": 0.9, "test": 0.1}, pinned=own)
    with pytest.raises(DataError, match="has not seen 0 of those"):
        draw(inner, generated())


def test_a_random_split_of_a_set_with_prompts_is_a_leak() -> None:
    with pytest.raises(LeakError, match="split by content instead"):
        draw(Split(kind="random"), generated())


def test_official_parts_that_share_a_prompt_are_a_leak() -> None:
    parts = ("train", "validation", "test", "test")
    samples = [replace(s, part=p) for s, p in zip(generated(2), parts, strict=True)]
    with pytest.raises(LeakError, match="train and validation"):
        draw(Split(kind="official"), samples)


def test_a_round_before_the_first_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Split(kind="paper", round=-1)


def test_a_random_split_of_single_photographs_is_none() -> None:
    photographs = [Sample("B", Path(f"{n}.jpg"), f"{n}.jpg", 0.5) for n in range(20)]
    assert len(draw(Split(kind="random"), photographs)["test"]) == 3


def test_a_generator_left_out_is_alone_in_the_test_part() -> None:
    parts = draw(Split(leave_out="Glide"), generated())
    assert {s.generator for s in parts["test"]} == {"Glide"}
    assert {s.generator for s in (*parts["train"], *parts["validation"])} == {"AttnGAN"}


def test_a_split_is_drawn_again_from_what_a_checkpoint_says() -> None:
    split = Split(seed=5, leave_out="Glide", pinned=Split(seed=2))
    provenance = {"by": "prompt", "protocol": "paper", **split.model_dump(exclude_none=True)}
    again = Split.of_provenance(provenance)
    assert again is not None
    assert again.draws_as(split)
    assert Split.of_provenance({"by": "prompt"}) is None


def test_the_order_of_the_shares_counts() -> None:
    one = Split(shares={"train": 0.75, "test": 0.25})
    other = Split(shares={"test": 0.25, "train": 0.75})
    assert one == other
    assert not one.draws_as(other)


@pytest.mark.parametrize(
    ("shares", "message"),
    [({"train": 1.0}, "lack test"), ({"train": 0.5, "test": 0.4}, r"add up to 0\.9")],
    ids=["no test", "not one"],
)
def test_shares_that_make_no_split_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Split(shares=shares)


def test_a_part_without_images_is_an_error() -> None:
    with pytest.raises(DataError, match="leaves no image to validation and test"):
        draw(Split(), generated(2))
