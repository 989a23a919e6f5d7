"""Training views: decoded images kept in memory, random windows and the whole image, in batches.

Preprocessing is the service's own (``model.images``, ``model.crops``): windows at the size that the
crop policy gives, never resized otherwise, and the whole image squashed to one crop.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from model import images
from model.config import CropPolicy, Normalisation
from model.crops import squash
from model.windows import place_windows
from training.data.samples import Sample


@dataclass(frozen=True)
class Picture:
    """One decoded image: uint8 [h, w, 3] as the windows see it, and the whole image squashed to
    [3, s, s], first at the crop's size, then larger.
    """

    pixels: np.ndarray
    wholes: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Batch:
    """Normalised windows [n, k, 3, size, size] and global views [n, 3, size, size], and what is
    known of each image.

    ``mos_align`` is NaN where the data set tells no alignment.
    """

    windows: Tensor
    wholes: Tensor
    mos: Tensor
    mos_align: Tensor
    samples: list[Sample]

    @property
    def same_set(self) -> Tensor:
        """[n, n] bool: which images come from one data set, so that their scores compare."""
        names = [sample.dataset for sample in self.samples]
        return torch.tensor([[a == b for b in names] for a in names])


def load_pictures(
    samples: Sequence[Sample], policy: CropPolicy, zooms: Sequence[float] = (1.0,)
) -> list[Picture]:
    """Decodes every image once, in threads; ``zooms`` are the sizes of its squashed views."""

    def load(sample: Sample) -> Picture:
        image = images.decode(sample.path.read_bytes())
        wholes = tuple(squash(image, round(policy.size * zoom)) for zoom in zooms)
        grid = place_windows(policy, *image.size)
        if image.size != (grid.width, grid.height):
            image = image.resize((grid.width, grid.height), Image.Resampling.BICUBIC)
        return Picture(np.asarray(image), wholes)

    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(load, samples), total=len(samples), desc="decode", unit="image"))


class Batches:
    """Shuffled training batches of ``windows`` random windows and the global view per image; an
    epoch is fixed by its seed.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        pictures: Sequence[Picture],
        policy: CropPolicy,
        normalisation: Normalisation,
        *,
        size: int,
        seed: int,
        windows: int = 1,
    ) -> None:
        self.samples, self.pictures = list(samples), list(pictures)
        self.crop, self.size, self.seed, self.windows = policy.size, size, seed, windows
        self._mean = torch.tensor(normalisation.mean).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(normalisation.std).view(1, 3, 1, 1) * 255

    def __len__(self) -> int:
        """Batches per epoch; the last, smaller one is left out."""
        return len(self.samples) // self.size

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at every call."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.samples))
        for start in range(0, len(self) * self.size, self.size):
            yield self._batch(order[start : start + self.size], rng)

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        pictures = [self.pictures[i] for i in chosen]
        windows = [
            _flip(self._cut(p.pixels.transpose(2, 0, 1), rng), rng)
            for p in pictures
            for _ in range(self.windows)
        ]
        wholes = [_flip(self._whole(p, rng), rng) for p in pictures]
        samples = [self.samples[i] for i in chosen]
        align = [math.nan if s.mos_align is None else s.mos_align for s in samples]
        return Batch(
            self._normal(windows).unflatten(0, (len(pictures), self.windows)),
            self._normal(wholes),
            torch.tensor([s.mos for s in samples]),
            torch.tensor(align),
            samples,
        )

    def _whole(self, picture: Picture, rng: np.random.Generator) -> np.ndarray:
        """The global view, or a crop of a larger one: most of the image, never the same pixels."""
        return self._cut(picture.wholes[int(rng.integers(len(picture.wholes)))], rng)

    def _cut(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random crop of [3, h, w]."""
        y, x = (int(rng.integers(0, side - self.crop + 1)) for side in pixels.shape[1:])
        return pixels[:, y : y + self.crop, x : x + self.crop]

    def _normal(self, views: list[np.ndarray]) -> Tensor:
        return (torch.from_numpy(np.stack(views)).float() - self._mean) / self._std


def _flip(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return view[..., ::-1] if rng.random() < 0.5 else view
