"""Degraded versions of rated images in a training batch: no rater saw them, but of one image the
stronger degradation is the worse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.preprocess.crops import squash_pixels
from training.data.samples import Sample
from training.sampling.degradations import DEGRADATIONS, degrade

# Weaker degradations can't be told from none.
_VISIBLE = 0.15

# Two strengths of one image differ by at least this, so that eyes would agree on the worse.
_LEAST_GAP = 0.15

# Degrading takes time in proportion to the area; of a larger image a part of this side is taken.
_SIDE = 384


@dataclass(frozen=True)
class Plan:
    """What is done to one image of the batch: its number there, the kind, and two strengths, weaker
    first.
    """

    base: int
    kind: str
    strengths: tuple[float, float]


@dataclass(frozen=True)
class Degraded:
    """The degraded images of a batch, two of each base, weaker first.

    ``windows`` [2 d, k, 3, s, s] and ``wholes`` [2 d, 3, s, s] are uint8, of those d that this
    process computes; ``plans`` tells of all of the batch's, in the same order.
    """

    windows: Tensor
    wholes: Tensor | None
    plans: list[Plan]

    @property
    def bases(self) -> Tensor:
        """Each pair's clean image, as a number in the batch."""
        return torch.tensor([plan.base for plan in self.plans])

    @property
    def words(self) -> list[str]:
        """The distortion of each of the 2 d, in MP-IQE's words; empty where it is too weak to be
        told.
        """
        return [
            DEGRADATIONS[plan.kind].word if strength > _VISIBLE else ""
            for plan in self.plans
            for strength in plan.strengths
        ]

    @property
    def strengths(self) -> Tensor:
        """[pairs, 2]."""
        return torch.tensor([plan.strengths for plan in self.plans])

    def to(self, device: torch.device) -> "Degraded":
        """The same on a device."""
        wholes = None if self.wholes is None else self.wholes.to(device, non_blocking=True)
        return Degraded(self.windows.to(device, non_blocking=True), wholes, self.plans)


def plan(
    samples: Sequence[Sample],
    count: int,
    seed: Sequence[int],
    often: Mapping[str, int] | None = None,
) -> list[Plan]:
    """What is done to the ``count`` best-rated images of a batch: clean ones have most to lose.
    ``often``: how many times as often as the others a kind is drawn.
    """
    choices = [kind for kind in DEGRADATIONS for _ in range((often or {}).get(kind, 1))]
    best = sorted(range(len(samples)), key=lambda i: -samples[i].mos)[:count]
    return [_drawn(i, choices, np.random.default_rng((*seed, i))) for i in best]


def _drawn(base: int, choices: Sequence[str], rng: np.random.Generator) -> Plan:
    low, high = sorted(rng.random(2))
    low = min(low, 1 - _LEAST_GAP)
    return Plan(base, choices[int(rng.integers(len(choices)))], (low, max(high, low + _LEAST_GAP)))


def cut(
    pixels: np.ndarray,
    planned: Plan,
    size: int,
    windows: int,
    rng: np.random.Generator,
    flips: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Both versions of one image, uint8: windows [2, k, 3, s, s] at the same places, and the wholes
    [2, 3, s, s].

    Args:
        pixels: uint8 [h, w, 3], as its windows are cut from.
        planned: kind and strengths.
        size: side of a window.
        windows: how many.
        rng: draws part, places and flips; kinds that need chance go on with it, both versions with
            the same: fading and glaring colours are no weaker and stronger form of one another.
        flips: how probable it is that all of them are mirrored.
    """
    y, x = (int(rng.integers(max(1, side - _SIDE + 1))) for side in pixels.shape[:2])
    part = pixels[y : y + _SIDE, x : x + _SIDE]
    height, width = part.shape[:2]
    corners = [
        (int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1)))
        for _ in range(windows)
    ]
    step = -1 if rng.random() < flips else 1
    each, wholes = [], []
    start = rng.bit_generator.state
    for strength in planned.strengths:
        rng.bit_generator.state = start
        worse = degrade(part, planned.kind, strength, rng)
        planes = worse.transpose(2, 0, 1)
        views = [planes[:, top : top + size, left : left + size] for top, left in corners]
        each.append(np.stack(views)[..., ::step])
        wholes.append(squash_pixels(worse, size)[..., ::step])
    return np.stack(each), np.stack(wholes)
