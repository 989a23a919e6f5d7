"""Training batches: random windows and the whole image of each, assembled ahead in threads.

The random choices of an image hang on the seed, the epoch and its place in the epoch alone, so they
are the same however many threads or processes share the work.
"""

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.samples import Sample
from training.sampling import degraded
from training.sampling.degraded import Degraded
from training.sampling.order import Order
from training.sampling.pictures import Picture, Pictures

# Batches in the making while one is trained on: each has a thread, and a GPU eats many.
_AHEAD = max(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Batch:
    """uint8 windows [m, k, 3, s, s] and global views [m, 3, s, s] (None: not wanted) of the images
    that this process computes, and what is known of all n images of the batch. Where the image
    tower does not learn, ``windows`` may be the views' features already, float32 [m, k, d].

    ``mos_align`` [n] is NaN where the data set tells no alignment. With one process m = n.
    ``degraded``: some of the images once more, made worse; None: not wanted.
    """

    windows: Tensor
    wholes: Tensor | None
    mos: Tensor
    mos_align: Tensor
    samples: list[Sample]
    degraded: Degraded | None = None

    @property
    def same_set(self) -> Tensor:
        """[n, n] bool: which images come from one data set, so that their scores compare."""
        numbers = {name: i for i, name in enumerate(sorted({s.dataset for s in self.samples}))}
        sets = torch.tensor([numbers[s.dataset] for s in self.samples], device=self.mos.device)
        return sets[:, None] == sets[None]

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        if device.type == "cpu":
            return self
        wholes = None if self.wholes is None else self.wholes.to(device, non_blocking=True)
        windows, mos, align = (
            t.to(device, non_blocking=True) for t in (self.windows, self.mos, self.mos_align)
        )
        worse = None if self.degraded is None else self.degraded.to(device)
        return Batch(windows, wholes, mos, align, self.samples, worse)


class Batches:
    """Shuffled training batches of ``size`` images, with ``windows`` random windows each; an epoch
    is fixed by its number and the seed. ``degraded`` of a batch's images, the best-rated ones, come
    in two degraded versions too, some kinds as many times as ``often`` says; ``flips`` of the views
    are mirrored. ``order``: which images each batch takes; None: every image once an epoch. Of each
    batch, this process cuts the part ``rank`` of ``processes``.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        pictures: Pictures,
        *,
        size: int,
        seed: int,
        windows: int = 1,
        wholes: bool = True,
        flips: float = 0.5,
        degraded: int = 0,
        often: Mapping[str, int] | None = None,
        order: Order | None = None,
    ) -> None:
        self.samples = list(samples)
        self.order = order or Order(self.samples, size)
        self.pictures = pictures
        self.size = size
        self.seed = seed
        self.windows = windows
        self.wholes = wholes
        self.flips = flips
        self.degraded = degraded
        self.often = often
        self.rank = 0
        self.processes = 1

    def share(self, rank: int, processes: int) -> None:
        """Cuts only this process's part of each batch from now on.

        Raises:
            ValueError: the batch can't be shared evenly.
        """
        for images, kind in ((self.size, ""), (self.degraded, " degraded images")):
            if images % processes:
                raise ValueError(f"a batch of {images}{kind} can't be shared evenly by {processes}")
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        """Batches per epoch; the last, smaller one is left out."""
        return len(self.order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at every call."""
        order = self.order.epoch(self.seed, number).ravel()
        coming: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(_AHEAD) as pool:
            for batch in range(len(self)):
                coming.append(pool.submit(self._batch, order, number, batch))
                # One more than there are threads: none idles while the oldest batch is trained on.
                if len(coming) > _AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def _batch(self, order: np.ndarray, epoch: int, number: int) -> Batch:
        places = range(number * self.size, (number + 1) * self.size)
        samples = [self.samples[order[place]] for place in places]
        mine = self.size // self.processes
        windows, wholes = [], []
        for place in places[self.rank * mine : (self.rank + 1) * mine]:
            rng = np.random.default_rng((self.seed, epoch, place))
            picture = self.pictures[self.samples[order[place]].path]
            crops = [self._flip(self._cut(_planes(picture), rng), rng) for _ in range(self.windows)]
            windows.append(np.stack(crops))
            if self.wholes:
                wholes.append(self._flip(self._whole(picture, rng), rng))
        return batch_of(
            samples,
            torch.from_numpy(np.stack(windows)),
            torch.from_numpy(np.stack(wholes)) if wholes else None,
            self._degraded(samples, epoch, number) if self.degraded else None,
        )

    def _degraded(self, samples: Sequence[Sample], epoch: int, number: int) -> Degraded:
        """The batch's best-rated images: all processes know the plan, each cuts its part of it."""
        start, mine = number * self.size, self.degraded // self.processes
        seed = (self.seed, epoch, start, 1)
        plans = degraded.plan(samples, self.degraded, seed, self.often)
        windows, wholes = [], []
        for plan in plans[self.rank * mine : (self.rank + 1) * mine]:
            rng = np.random.default_rng((self.seed, epoch, start + plan.base, 2))
            pixels = self.pictures[samples[plan.base].path].pixels
            size = self.pictures.policy.size
            views, whole = degraded.cut(pixels, plan, size, self.windows, rng, self.flips)
            windows.append(views)
            wholes.append(whole)
        return Degraded(
            torch.from_numpy(np.concatenate(windows)),
            torch.from_numpy(np.concatenate(wholes)) if self.wholes else None,
            plans,
        )

    def _whole(self, picture: Picture, rng: np.random.Generator) -> np.ndarray:
        """The global view, or a crop of a larger one: most of the image, never the same pixels."""
        return self._cut(picture.wholes[int(rng.integers(len(picture.wholes)))], rng)

    def _cut(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random crop of [3, h, w]."""
        size = self.pictures.policy.size
        y, x = (int(rng.integers(0, side - size + 1)) for side in pixels.shape[1:])
        return pixels[:, y : y + size, x : x + size]

    def _flip(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return view[..., ::-1] if rng.random() < self.flips else view


def batch_of(
    samples: list[Sample],
    windows: Tensor,
    wholes: Tensor | None = None,
    worse: Degraded | None = None,
) -> Batch:
    """The batch of these samples and views of this process's part of them."""
    align = [math.nan if s.mos_align is None else s.mos_align for s in samples]
    mos = torch.tensor([s.mos for s in samples])
    return Batch(windows, wholes, mos, torch.tensor(align), samples, worse)


def _planes(picture: Picture) -> np.ndarray:
    return picture.pixels.transpose(2, 0, 1)
