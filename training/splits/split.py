"""How a run divides its data: a split as recipes and checkpoints state it, and its drawing.

A checkpoint keeps its ``Split``, so that the same parts can be drawn again from the same data set.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.samples import Sample
from training.errors import DataError
from training.splits.groups import (
    PARTS,
    key_of,
    official,
    paper_rounds,
    refuse_leaks,
    split_by_group,
    without_generator,
)

Parts = dict[str, list[Sample]]


class Split(BaseModel):
    """A split of one or several data sets, each divided alone.

    - ``content``: shares of the groups (prompts, reference images), drawn with ``seed``;
    - ``random``: shares of the images; a leak, so an error, where a set has groups;
    - ``official``: the parts that the set itself states; with LIQE's label files, those of its
      split ``round`` + 1;
    - ``paper``: ``round`` of CLIP-AGIQA's published rounds, on all prompts of AGIQA-3K or of
      AIGCIQA2023.

    Parts are drawn in the order of the shares, which may name one ``unused`` that nobody looks at;
    a ``test`` of 0 leaves the test to other sets. A split without a validation part gives ``inner``
    of the training groups to it, none if 0. ``leave_out``: a generator that training never sees and
    the test alone has. ``pinned``: the split under which the backbone saw this data; its training
    groups train here too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["content", "random", "official", "paper"] = "content"
    seed: int = 1
    shares: dict[str, float] = Field(default={"train": 0.75, "validation": 0.10, "test": 0.15})
    round: int = Field(default=0, ge=0)
    inner: float = Field(default=0.1, ge=0, lt=1)
    leave_out: str | None = None
    pinned: "Split | None" = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if missing := {"train", "test"} - set(self.shares):
            raise ValueError(f"the shares lack {' and '.join(sorted(missing))}")
        if abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError(f"the shares add up to {sum(self.shares.values()):g}, not 1")
        return self

    @classmethod
    def of_provenance(cls, provenance: Mapping[str, Any]) -> Self | None:
        """The split that a checkpoint states; None: it states none."""
        if "shares" not in provenance:
            return None
        return cls.model_validate({k: v for k, v in provenance.items() if k in cls.model_fields})

    @property
    def states_validation(self) -> bool:
        """Whether a validation part is among what is drawn, before ``inner`` gives one."""
        drawn = self.kind in {"content", "random"}
        return "validation" in self.shares if drawn else self.kind == "official"

    @property
    def tests(self) -> bool:
        """Whether there is a test part."""
        return self.kind in {"official", "paper"} or self.shares["test"] > 0

    def draws_as(self, other: "Split") -> bool:
        """Whether both draw the same parts: the order of the shares counts too."""
        return self.model_dump_json() == other.model_dump_json()


def draw(split: Split, samples: Sequence[Sample]) -> Parts:
    """The parts of one data set: train, validation (unless ``inner`` is 0 and none is stated), test
    (empty if its share is 0), and what the shares name beside.

    Raises:
        LeakError: a prompt or reference image would lie in two parts.
        DataError: the set can't be divided so.
    """
    parts = _drawn(split, samples)
    # Now, since leaving images out could hide a leak; and below, since moving some could make one.
    refuse_leaks(parts)
    if "validation" not in parts and split.inner:
        parts = _with_validation(parts, split)
    if split.leave_out:
        parts = without_generator(parts, split.leave_out)
    needed = {"train", *(["test"] * split.tests)}
    needed |= {"validation"} if split.inner or split.states_validation else set()
    if empty := [part for part in PARTS if part in needed and not parts.get(part)]:
        remedy = "draw one" if split.kind == "official" else "set other shares"
        raise DataError(f"the split leaves no image to {' and '.join(empty)}: {remedy}")
    refuse_leaks(parts)
    return parts


def _drawn(split: Split, samples: Sequence[Sample]) -> Parts:
    if split.kind == "official":
        return official(samples)
    if split.kind == "paper":
        return paper_rounds(samples, split.round)
    if split.kind == "random":
        return split_by_group(samples, split.shares, split.seed, group_of=lambda s: str(s.path))
    return split_by_group(samples, split.shares, split.seed, seen_groups(split.pinned, samples))


def seen_groups(split: Split | None, samples: Sequence[Sample]) -> frozenset[str]:
    """The groups in the training part of a split; none without one."""
    if split is None:
        return frozenset()
    return frozenset(sample.group for sample in draw(split, samples)["train"])


def _with_validation(parts: Parts, split: Split) -> Parts:
    """A share of the training groups becomes the validation part."""
    everything = [sample for part in parts.values() for sample in part]
    seen = {key_of(group) for group in seen_groups(split.pinned, everything)}
    groups = sorted({s.group for s in parts["train"]})
    free = [group for group in groups if key_of(group) not in seen]
    wanted = max(1, round(split.inner * len(groups)))
    if len(free) < wanted:
        raise DataError(
            f"validation takes {wanted} groups, and the backbone has not seen {len(free)} of those "
            "that are left to train and validation: set split.inner or the test share lower"
        )
    random.Random(split.seed + split.round).shuffle(free)
    inner = set(free[:wanted])
    train = [s for s in parts["train"] if s.group not in inner]
    validation = [s for s in parts["train"] if s.group in inner]
    others = {part: rows for part, rows in parts.items() if part != "train"}
    return {"train": train, "validation": validation, **others}
