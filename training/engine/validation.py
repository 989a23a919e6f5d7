"""The validation set: what training measures after an epoch."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.config import CropPolicy
from model.preprocess.windows import for_file, place_windows
from training.data.samples import Sample
from training.evaluation.metrics import srcc
from training.evaluation.results import SrccBySet, opinions
from training.sampling.features import Features
from training.sampling.pictures import Picture, Pictures

# Views per chunk.
_CHUNK = 64


@dataclass(frozen=True)
class ValidationViews:
    """uint8 windows [n, k, 3, s, s], or features float32 [n, 1, d], and global views [n, 3, s, s]
    (None where not wanted) of the validation samples ``rows``.
    """

    rows: list[int]
    windows: Tensor
    wholes: Tensor | None


@dataclass(frozen=True)
class ValidationSet:
    """The validation samples and the views of them that are scored: the middle window, or
    ``all_windows`` of the crop policy, as the scorer does (``policy`` None: that of the pictures);
    or ``features`` of whole images.
    """

    samples: Sequence[Sample]
    pictures: Pictures
    all_windows: bool = False
    policy: CropPolicy | None = None
    features: Features | None = None

    def views(self, rank: int = 0, processes: int = 1) -> Iterator[ValidationViews]:
        """This process's share in chunks; images with as many windows share one."""
        for number, rows in enumerate(self._chunks()):
            if number % processes == rank:
                yield self._cut(rows)

    def srcc(self, predicted: Mapping[str, np.ndarray]) -> SrccBySet:
        """SRCC of each head's predictions [n], per data set that has the head's opinion score."""
        figures: dict[str, dict[str, float]] = defaultdict(dict)
        for data_set in sorted({s.dataset for s in self.samples}):
            rows = [i for i, s in enumerate(self.samples) if s.dataset == data_set]
            for head, values in predicted.items():
                if (mos := opinions([self.samples[i] for i in rows], head)) is not None:
                    figures[data_set][head] = srcc(values[rows], mos)
        return figures

    def _chunks(self) -> Iterator[list[int]]:
        if self.features is not None:
            every = range(len(self.samples))
            yield from (list(every[i : i + _CHUNK]) for i in every[::_CHUNK])
            return
        waiting: dict[int, list[int]] = {}
        for row, sample in enumerate(self.samples):
            windows = len(self._corners(self.pictures[sample.path]))
            rows = waiting.setdefault(windows, [])
            rows.append(row)
            if (len(rows) + 1) * windows > _CHUNK:
                yield waiting.pop(windows)
        yield from waiting.values()

    def _cut(self, rows: list[int]) -> ValidationViews:
        if self.features is not None:
            plain = [self.features[self.samples[row].path][:1] for row in rows]
            return ValidationViews(rows, torch.stack(plain), None)
        size = self.pictures.policy.size
        pictures = [self.pictures[self.samples[row].path] for row in rows]
        windows = [
            np.stack([p.pixels[y : y + size, x : x + size] for x, y in self._corners(p)])
            for p in pictures
        ]
        wholes = np.stack([p.wholes[0] for p in pictures]) if self.pictures.zooms else None
        return ValidationViews(
            rows,
            torch.from_numpy(np.stack(windows)).permute(0, 1, 4, 2, 3),
            None if wholes is None else torch.from_numpy(wholes),
        )

    def _corners(self, picture: Picture) -> Sequence[tuple[int, int]]:
        """Top left (x, y) of the windows that are scored."""
        height, width = picture.pixels.shape[:2]
        policy = self.policy or self.pictures.policy
        # The whole image as a window has a shape of its own, which does not stack with others.
        if self.all_windows and policy.kind != "whole":
            return list(place_windows(for_file(policy, picture.digest), width, height).windows)
        return [((width - policy.size) // 2, (height - policy.size) // 2)]
