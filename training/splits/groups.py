"""Splits by content: no group (prompt, reference image) lies in two parts. Drawn from shares and a
seed, as the paper drew them, as the set itself says, or with one generator kept for the test.

``training.splits.split.draw`` refuses parts that share a group, however they were drawn.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from operator import attrgetter
from typing import Any

from training.data.readers import aigciqa2023
from training.data.samples import Sample
from training.errors import DataError, LeakError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class _Rounds:
    """CLIP-AGIQA's published rounds of a set: its prompts, how many of them train, and the name by
    which they are shuffled, which sorts them as the published code has them.
    """

    prompts: int
    train: int
    name_of: Callable[[Sample], Any]


_PAPER_SEED, PAPER_ROUNDS = 10, 10
_PUBLISHED: Mapping[str, _Rounds] = {
    "AGIQA-3K": _Rounds(300, 240, attrgetter("prompt")),
    "AIGCIQA2023": _Rounds(100, 80, lambda sample: aigciqa2023.prompt_number(sample.path)),
}


def split_by_group(
    samples: Sequence[Sample],
    shares: Mapping[str, float],
    seed: int,
    pinned: Collection[str] = frozenset(),
    group_of: Callable[[Sample], str] = attrgetter("group"),
) -> dict[str, list[Sample]]:
    """Draws named parts, e.g. {"train": .75, "validation": .1, "test": .15}, of the groups in
    sorted order.

    Shares are of the groups, not of the samples, and add up to 1. ``pinned`` groups (those that
    the backbone has seen) always go to "train"; the other parts are drawn from the rest.
    ``group_of`` says what is drawn as one instead of the sample's own group.

    Raises:
        DataError: too few groups are free for the parts other than "train".
    """
    groups = sorted({group_of(sample) for sample in samples})
    random.Random(seed).shuffle(groups)
    names = {key_of(group) for group in pinned}
    fixed = [group for group in groups if key_of(group) in names]
    free = [group for group in groups if key_of(group) not in names]
    sizes = _sizes(shares, len(groups))
    if fixed:
        sizes["train"] = _left_to_train(sizes, len(fixed))
    owner = dict.fromkeys(fixed, "train")
    rest = iter(free)
    for part, size in sizes.items():
        owner |= dict.fromkeys(islice(rest, size), part)
    return {part: [s for s in samples if owner[group_of(s)] == part] for part in shares}


def paper_rounds(samples: Sequence[Sample], round: int) -> dict[str, list[Sample]]:
    """Round 0 to 9 of the splits that CLIP-AGIQA was published with: {"train", "test"}, 240 and 60
    of AGIQA-3K's 300 prompts, in their alphabetical order, or 80 and 20 of AIGCIQA2023's 100, by
    their numbers.

    Raises:
        DataError: another set, not all of its prompts, or more; or no such round.
    """
    (name,) = {sample.dataset for sample in samples}
    if name not in _PUBLISHED:
        known = " and ".join(_PUBLISHED)
        raise DataError(f"the paper has no rounds of {name}, only of {known}: draw your own")
    published = _PUBLISHED[name]
    prompts = sorted({published.name_of(sample) for sample in samples})
    if len(prompts) != published.prompts:
        raise DataError(
            f"the paper's rounds are drawn from all {published.prompts} prompts of {name}, and "
            f"{len(prompts)} are here: draw rounds of your own, one per seed"
        )
    if round >= PAPER_ROUNDS:
        raise DataError(f"the paper has rounds 0 to {PAPER_ROUNDS - 1}, not {round}")
    rng, order = random.Random(_PAPER_SEED), list(range(published.prompts))
    for _ in range(round + 1):
        rng.shuffle(order)
    tested = {prompts[i] for i in order[published.train :]}
    parts: dict[str, list[Sample]] = {"train": [], "test": []}
    for sample in samples:
        parts["test" if published.name_of(sample) in tested else "train"].append(sample)
    return parts


def official(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The parts that the set itself puts its images into.

    Raises:
        DataError: it puts some into none.
    """
    if without := sum(not sample.part for sample in samples):
        raise DataError(
            f"{without} of the {len(samples)} images have no part of an official split: draw one"
        )
    own = {sample.part for sample in samples}
    names = [*(part for part in PARTS if part in own), *sorted(own - set(PARTS))]
    return {name: [sample for sample in samples if sample.part == name] for name in names}


def without_generator(
    parts: Mapping[str, Sequence[Sample]], generator: str
) -> dict[str, list[Sample]]:
    """Leaves one generator out of everything but the test, which keeps nothing but its images; no
    group moves.

    Raises:
        DataError: no image is this generator's, or none of the test part.
    """
    known = sorted({s.generator for part in parts.values() for s in part if s.generator})
    if generator not in known:
        raise DataError(
            f"no image is by {generator!r}; the generators here are {', '.join(known) or 'unknown'}"
        )
    left = {
        name: [s for s in part if (s.generator == generator) == (name == "test")]
        for name, part in parts.items()
    }
    if not left.get("test"):
        raise DataError(f"the test part has no image by {generator}")
    return left


def refuse_leaks(parts: Mapping[str, Sequence[Sample]]) -> None:
    """Raises ``LeakError`` when a group lies in two parts; case and spaces at the ends don't make
    two groups.
    """
    seen: dict[str, str] = {}
    for part, samples in parts.items():
        for group in {key_of(sample.group) for sample in samples}:
            if group in seen:
                raise LeakError(
                    f"{group!r} lies in both {seen[group]} and {part}: split by content instead"
                )
            seen[group] = part


def key_of(group: str) -> str:
    """A group's name by which two are the same: case and spaces at the ends don't count."""
    return group.strip().casefold()


def _sizes(shares: Mapping[str, float], groups: int) -> dict[str, int]:
    """How many groups each part gets; they add up, whatever the rounding."""
    bounds = pairwise(round(total * groups) for total in accumulate(shares.values(), initial=0.0))
    return {part: end - start for part, (start, end) in zip(shares, bounds, strict=True)}


def _left_to_train(sizes: Mapping[str, int], pinned: int) -> int:
    """Free groups that the training part still takes beside the pinned ones."""
    groups, train = sum(sizes.values()), sizes.get("train", 0)
    if pinned > train:
        raise DataError(
            f"{pinned} of the {groups} groups are pinned to train, which leaves {groups - pinned}; "
            f"the other parts take {groups - train}"
        )
    return train - pinned
