"""Validation images as the quick monitor of training sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.config import Normalisation
from training.data.samples import Sample
from training.data.views import Picture
from training.evaluation.metrics import srcc


@dataclass(frozen=True)
class Held:
    """The middle window [n, 1, 3, size, size] and the whole image [n, 3, size, size] of each
    sample, normalised.
    """

    samples: Sequence[Sample]
    middles: Tensor
    wholes: Tensor

    def figures(self, predicted: Mapping[str, np.ndarray]) -> dict[str, float]:
        """SRCC of each head's predictions [n], per data set: ``quality_srcc_AGIQA-3K`` ..."""
        figures = {}
        for dataset in sorted({s.dataset for s in self.samples}):
            rows = [i for i, s in enumerate(self.samples) if s.dataset == dataset]
            for head, values in predicted.items():
                field = "mos" if head == "quality" else "mos_align"
                told = [getattr(self.samples[i], field) for i in rows]
                if None not in told:
                    figures[f"{head}_srcc_{dataset}"] = srcc(values[rows], told)
        return figures

    @classmethod
    def of(
        cls, samples: Sequence[Sample], pictures: Sequence[Picture], size: int, norm: Normalisation
    ) -> "Held":
        """Cuts the middle windows and normalises both views."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in (norm.mean, norm.std))
        stacks = ([_middle(p.pixels, size) for p in pictures], [p.wholes[0] for p in pictures])
        middles, wholes = (
            (torch.from_numpy(np.stack(views)).float() - mean) / std for views in stacks
        )
        return cls(samples, middles[:, None], wholes)


def _middle(pixels: np.ndarray, size: int) -> np.ndarray:
    y, x = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[y : y + size, x : x + size].transpose(2, 0, 1)
