"""Splits by content: no group (prompt, reference image) lies in two parts. Reproducible from shares
and a seed.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from training.errors import LeakError


class Grouped(Protocol):
    """Anything that says which group it belongs to."""

    @property
    def group(self) -> str: ...  # noqa: D102


G = TypeVar("G", bound=Grouped)


def split_by_group(
    samples: Sequence[G], shares: Mapping[str, float], seed: int
) -> dict[str, list[G]]:
    """Draws named parts, e.g. {"train": .75, "validation": .1, "test": .15}, of the groups in
    sorted order.

    Shares are of the groups, not of the samples, and add up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"the shares add up to {sum(shares.values())}, not 1")
    groups = sorted({sample.group for sample in samples})
    random.Random(seed).shuffle(groups)
    owner: dict[str, str] = {}
    start, total = 0, 0.0
    for part, share in shares.items():
        total += share
        end = round(total * len(groups))
        owner |= dict.fromkeys(groups[start:end], part)
        start = end
    parts = {part: [s for s in samples if owner[s.group] == part] for part in shares}
    refuse_leaks(parts)
    return parts


def refuse_leaks(parts: Mapping[str, Sequence[Grouped]]) -> None:
    """Raises ``LeakError`` when a group lies in two parts; case and spaces at the ends don't make
    two groups.
    """
    seen: dict[str, str] = {}
    for part, samples in parts.items():
        for group in {sample.group.strip().casefold() for sample in samples}:
            if group in seen:
                raise LeakError(
                    f"{group!r} lies in both {seen[group]} and {part}: split by content instead"
                )
            seen[group] = part
