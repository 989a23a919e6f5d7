"""Where a crop policy places its windows over an image of a given size. Needs no torch.

grid      evenly spaced windows that cover the whole image
official  CLIP-AGIQA's published test protocol: every window at stride 64 from the top left
liqe      LIQE's: windows at stride 32 (48 on large images), 15 of them picked evenly; the short
          side is reduced to 768 before
random    MP-IQE's: 8 windows at random, seeded by the policy, the image's size and its file
whole     one window, the image itself: what a ResNet without positional embedding takes
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from model.config import CropPolicy

# LIQE strides wider over images with a side of at least so many pixels.
_LIQE_LARGE, _LIQE_LARGE_STRIDE = 1024, 48

# A digest of more would hold up an event loop that plans, and tell images apart no better.
_DIGESTED = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Crossed(Collection[tuple[int, int]]):
    """The (x, y) of every x with every y, row by row, as two axes: 100 megapixels at stride 64 have
    23 000 of them, and whoever sends a header would have them listed.
    """

    xs: range | tuple[int, ...]
    ys: range | tuple[int, ...]

    def __len__(self) -> int:
        return len(self.xs) * len(self.ys)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((x, y) for y in self.ys for x in self.xs)

    def __contains__(self, corner: object) -> bool:
        return isinstance(corner, tuple) and corner[0] in self.xs and corner[1] in self.ys

    def at(self, number: int) -> tuple[int, int]:
        """The corner of that number."""
        row, column = divmod(number, len(self.xs))
        return self.xs[column], self.ys[row]


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows of one size over an image that was first resized to ``width`` x ``height``.

    ``window`` is (width, height) of each; ``windows`` holds the (x, y) of their top left corners.
    ``bilinear``: the image is resized so, not bicubic. A grid takes little memory however many
    windows it has.
    """

    width: int
    height: int
    window: tuple[int, int]
    windows: Collection[tuple[int, int]]
    bilinear: bool = False

    def is_scaled(self, width: int, height: int) -> bool:
        """Whether the windows see an image of that size at another than its native one."""
        return (self.width, self.height) != (width, height)

    def boxes(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        """The windows as [x, y, width, height] in pixels of the original ``width`` x ``height``
        image.
        """
        boxes = []
        for x, y in self.windows:
            left, across = _span(x, self.window[0], width / self.width, width)
            top, down = _span(y, self.window[1], height / self.height, height)
            boxes.append((left, top, across, down))
        return boxes


def _span(start: int, length: int, scale: float, side: int) -> tuple[int, int]:
    """Where a window begins in the original and how long it is there; at least one pixel."""
    first = min(round(start * scale), side - 1)
    return first, max(round((start + length) * scale), first + 1) - first


def file_digest(data: bytes) -> bytes:
    """What tells an image's file from others: a digest of its length and of both its ends."""
    found = hashlib.blake2b(len(data).to_bytes(8, "big"), digest_size=16)
    found.update(data[:_DIGESTED])
    found.update(data[-_DIGESTED:])
    return found.digest()


def hangs_on_file(policy: CropPolicy) -> bool:
    """Whether two images of one size may be looked at in different places."""
    return policy.kind == "random" and policy.seeded_by == "file"


def for_file(policy: CropPolicy, digest: bytes) -> CropPolicy:
    """The policy as it places windows over the image in the file of that digest."""
    if not hangs_on_file(policy):
        return policy
    own = hashlib.blake2b(digest, key=policy.seed.to_bytes(16, "big"), digest_size=8).digest()
    seed = int.from_bytes(own, "big")
    return policy.model_copy(update={"seed": seed, "seeded_by": "size"})


def place_windows(policy: CropPolicy, width: int, height: int) -> Grid:
    """Places the policy's windows over a ``width`` x ``height`` image (design.md section 3)."""
    grid = _KINDS[policy.kind](policy, width, height)
    reduced = min(width, height) > (policy.max_short_side or math.inf)
    return replace(grid, bilinear=True) if reduced else grid


def _grid(policy: CropPolicy, width: int, height: int) -> Grid:
    w, h = _grid_size(policy, width, height)
    across, down = _window_counts(policy, w, h)
    windows = Crossed(_spread(w, policy.size, across), _spread(h, policy.size, down))
    return Grid(w, h, (policy.size, policy.size), windows)


def _official(policy: CropPolicy, width: int, height: int) -> Grid:
    w, h = _native(policy, width, height)
    windows = Crossed(*(_strided(side, policy.size, policy.stride) for side in (w, h)))
    return Grid(w, h, (policy.size, policy.size), windows)


def _liqe(policy: CropPolicy, width: int, height: int) -> Grid:
    w, h = _native(policy, width, height)
    stride = _LIQE_LARGE_STRIDE if max(w, h) >= _LIQE_LARGE else policy.stride
    every = Crossed(*(_strided(side, policy.size, stride) for side in (w, h)))
    step = max(1, len(every) // policy.max_windows)
    picked = range(0, len(every), step)[: policy.max_windows]
    return Grid(w, h, (policy.size, policy.size), tuple(map(every.at, picked)))


def _random(policy: CropPolicy, width: int, height: int) -> Grid:
    w, h = _native(policy, width, height)
    rng = np.random.default_rng((policy.seed, w, h))
    xs, ys = (rng.integers(0, s - policy.size + 1, policy.max_windows).tolist() for s in (w, h))
    return Grid(w, h, (policy.size, policy.size), tuple(zip(xs, ys, strict=True)))


def _whole(policy: CropPolicy, width: int, height: int) -> Grid:
    w, h = _scaled(width, height, _scale(policy, width, height), policy.size)
    return Grid(w, h, (w, h), ((0, 0),))


_KINDS: dict[str, Callable[[CropPolicy, int, int], Grid]] = {
    "grid": _grid,
    "official": _official,
    "liqe": _liqe,
    "random": _random,
    "whole": _whole,
}


def _native(policy: CropPolicy, width: int, height: int) -> tuple[int, int]:
    """Native size, reduced to ``max_short_side``, or scaled up until one window fits."""
    short, most = min(width, height), policy.max_short_side
    if most is not None and short > most:
        # Rounded down, as torchvision's Resize does, which LIQE uses.
        return width * most // short, height * most // short
    return _scaled(width, height, max(1.0, policy.size / short), policy.size)


def _grid_size(policy: CropPolicy, width: int, height: int) -> tuple[int, int]:
    size = policy.size
    scale = _scale(policy, width, height)
    w, h = _scaled(width, height, scale, size)
    # Not even edge to edge do so few windows cover it: shrink.
    while math.ceil(w / size) * math.ceil(h / size) > policy.max_windows:
        scale *= 0.98
        w, h = _scaled(width, height, scale, size)
        if min(w, h) == size:
            return min(w, policy.max_windows * size), min(h, policy.max_windows * size)
    return w, h


def _scale(policy: CropPolicy, width: int, height: int) -> float:
    """Down to ``max_side``, but never to less than one window."""
    scale = min(1.0, (policy.max_side or math.inf) / max(width, height))
    return max(scale, policy.size / min(width, height))


def _scaled(width: int, height: int, scale: float, least: int) -> tuple[int, int]:
    return max(least, round(width * scale)), max(least, round(height * scale))


def _window_counts(policy: CropPolicy, width: int, height: int) -> tuple[int, int]:
    """Windows per axis at the policy's stride, thinned (never below edge to edge) until the cap
    holds.
    """
    counts = [math.ceil((side - policy.size) / policy.stride) + 1 for side in (width, height)]
    least = [math.ceil(side / policy.size) for side in (width, height)]
    while counts[0] * counts[1] > policy.max_windows:
        axis = max((0, 1), key=lambda a: (counts[a] > least[a], counts[a] / least[a]))
        counts[axis] -= 1
    return counts[0], counts[1]


def _spread(side: int, size: int, count: int) -> tuple[int, ...]:
    return tuple(round(i * (side - size) / max(1, count - 1)) for i in range(count))


def _strided(side: int, size: int, stride: int) -> range:
    return range(0, side - size + 1, stride)
