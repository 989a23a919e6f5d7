"""An image's score as a tensor, so that it has a gradient: what each method's own reading computes
before it becomes a number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.antonyms import FoldedAntonyms, positive_probability
from model.clip_agiqa import FoldedClipAgiqa
from model.config import Head
from model.consistency import pool_views
from model.crops import ALIGNMENT_PASS, QUALITY_PASS
from model.liqe import FoldedLiqe, Marginals, to_unit
from model.mp_iqe import FoldedMpIqe
from model.network import Folded, Views, mix_views
from training.errors import TrainingError


class Readout(Protocol):
    """From the rows of one image's views to its score."""

    def score(self, views: Views) -> Tensor:
        """The score [], not clipped."""

    def share(self, windows: int) -> float:
        """What the global view counts beside that many windows, in [0, 1]."""


@dataclass(frozen=True)
class Mixed:
    """The mean of the windows' own values, mixed with the global view's by its learned ``weight``.

    ``each`` takes rows [n, d] to values [n].
    """

    each: Callable[[Tensor], Tensor]
    weight: Tensor

    def score(self, views: Views) -> Tensor:
        """(1 - weight) * mean over windows + weight * global view."""
        mean = self.each(views.windows).mean()
        if views.whole is None:
            return mean
        return mix_views(mean, self.each(views.whole[None])[0], self.weight)

    def share(self, windows: int) -> float:
        """The weight, however many windows there are."""
        del windows
        return float(self.weight)


@dataclass(frozen=True)
class Pooled:
    """One value of all views, the global one among its equals; ``pool`` takes rows [n, d] to []."""

    pool: Callable[[Tensor], Tensor]

    def score(self, views: Views) -> Tensor:
        """The value of windows and global view."""
        return self.pool(views.all)

    def share(self, windows: int) -> float:
        """One view among all."""
        return 1 / (windows + 1)


def readout_of(folded: Folded, head: Head, t_user: Tensor | None = None) -> Readout:
    """How a folded network reads a head; ``t_user`` [d], the prompt's feature, is for consistency.

    Raises:
        TrainingError: a network of another method.
    """
    if isinstance(folded, FoldedClipAgiqa):
        return _clip_agiqa(folded, head, t_user)
    if isinstance(folded, FoldedMpIqe):
        return Mixed(lambda rows: rows[:, 0], folded.global_weight)
    if isinstance(folded, FoldedLiqe):
        scale, texts = folded.scale, folded.texts
        return Pooled(lambda z: to_unit(Marginals.of((scale * z @ texts.T).mean(0)).quality))
    if isinstance(folded, FoldedAntonyms):
        classes, scale = folded.pairs["quality"], folded.scale
        return Pooled(lambda z: positive_probability(z, classes, scale).mean())
    raise TrainingError(f"{type(folded).__name__} has no explanation")


def _clip_agiqa(folded: FoldedClipAgiqa, head: Head, t_user: Tensor | None) -> Readout:
    readout = folded.readout
    if head == "consistency":
        consistency, classes = readout.consistency, readout.classes[ALIGNMENT_PASS]
        assert consistency is not None
        assert t_user is not None
        user = t_user[None]
        return Pooled(lambda z: consistency(pool_views(z)[None], user, classes)[0])
    task = QUALITY_PASS if head == "quality" else ALIGNMENT_PASS
    return Mixed(
        lambda z: positive_probability(z, readout.classes[task], readout.scale),
        readout.global_weight[task],
    )


@torch.inference_mode()
def semantic_rows(folded: Folded, pixels: Tensor) -> Tensor:
    """Class features [n, d] of normalised crops [n, 3, h, w] in the quality pass, as CLIP's
    projection gives them.
    """
    if isinstance(folded, FoldedMpIqe):  # its rows are scores
        network = folded.network
        return (network.tokens(pixels)[:, 0] @ network.vision.visual.proj).float().cpu()
    rows = torch.arange(len(pixels), device=pixels.device)
    return folded(pixels, rows, torch.full_like(rows, QUALITY_PASS)).cpu()
