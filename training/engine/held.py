"""Validation images, as training looks at them after an epoch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.windows import place_windows
from training.data.pictures import Picture, Pictures
from training.data.samples import Sample
from training.evaluation.metrics import srcc

# Views per chunk.
_CHUNK = 64


@dataclass(frozen=True)
class HeldViews:
    """uint8 windows [n, k, 3, s, s] and global views [n, 3, s, s] (None where not wanted) of the
    held samples ``rows``.
    """

    rows: list[int]
    windows: Tensor
    wholes: Tensor | None


@dataclass(frozen=True)
class Held:
    """The validation samples and what is looked at: their middle window, or ``every`` window of the
    crop policy, as the scorer does.
    """

    samples: Sequence[Sample]
    pictures: Pictures
    every: bool = False

    def views(self, rank: int = 0, processes: int = 1) -> Iterator[HeldViews]:
        """This process's share in chunks; images with as many windows share one."""
        for number, rows in enumerate(self._chunks()):
            if number % processes == rank:
                yield self._cut(rows)

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

    def _chunks(self) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = {}
        for row, sample in enumerate(self.samples):
            windows = len(self._corners(self.pictures[sample.path]))
            rows = waiting.setdefault(windows, [])
            rows.append(row)
            if (len(rows) + 1) * windows > _CHUNK:
                yield waiting.pop(windows)
        yield from waiting.values()

    def _cut(self, rows: list[int]) -> HeldViews:
        size = self.pictures.policy.size
        pictures = [self.pictures[self.samples[row].path] for row in rows]
        windows = [
            np.stack([p.pixels[y : y + size, x : x + size] for x, y in self._corners(p)])
            for p in pictures
        ]
        wholes = np.stack([p.wholes[0] for p in pictures]) if self.pictures.zooms else None
        return HeldViews(
            rows,
            torch.from_numpy(np.stack(windows)).permute(0, 1, 4, 2, 3),
            None if wholes is None else torch.from_numpy(wholes),
        )

    def _corners(self, picture: Picture) -> Sequence[tuple[int, int]]:
        """Top left (x, y) of the windows that are looked at."""
        height, width = picture.pixels.shape[:2]
        size = self.pictures.policy.size
        if self.every and self.pictures.policy.kind != "whole":  # of one shape, so that they stack
            return place_windows(self.pictures.policy, width, height).windows
        return [((width - size) // 2, (height - size) // 2)]
