"""The crop policy: which windows of an image the network sees. Needs no torch.

``grid`` covers the whole image with evenly spaced windows; ``official`` repeats the published test
protocol of CLIP-AGIQA. A request's rows are (crop, pass) pairs, in the order pass by pass, windows
before the global view.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from model.config import CheckpointConfig, CropPolicy, Head

QUALITY_PASS, ALIGNMENT_PASS = 0, 1


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows over an image that was first resized to ``width`` x ``height``."""

    width: int
    height: int
    size: int
    xs: tuple[int, ...]
    ys: tuple[int, ...]

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """(x, y) of each window's top left corner, row by row."""
        return tuple((x, y) for y in self.ys for x in self.xs)

    def boxes(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        """The windows as [x, y, width, height] in pixels of the original ``width`` x ``height``
        image.
        """
        columns = [self._span(x, width / self.width, width) for x in self.xs]
        rows = [self._span(y, height / self.height, height) for y in self.ys]
        return [(x, y, w, h) for y, h in rows for x, w in columns]

    def _span(self, start: int, scale: float, side: int) -> tuple[int, int]:
        """Where a window begins in the original and how long it is there; at least one pixel."""
        first = min(round(start * scale), side - 1)
        return first, max(round((start + self.size) * scale), first + 1) - first


@dataclass(frozen=True, slots=True)
class Layout:
    """One request's part of a batch: how many windows, which crops exist, and which (crop, pass)
    rows are computed.

    Crop i < ``windows`` is window i; crop ``windows`` is the global view where ``crops`` counts one
    more.
    """

    windows: int
    crops: int
    row_crop: tuple[int, ...]
    row_pass: tuple[int, ...]


@lru_cache(maxsize=4096)
def place_windows(policy: CropPolicy, width: int, height: int) -> Grid:
    """Places the policy's windows over a ``width`` x ``height`` image (design.md section 3)."""
    if policy.kind == "official":
        scale = max(1.0, policy.size / min(width, height))
        w, h = _scaled(width, height, scale, policy.size)
        return Grid(w, h, policy.size, _strided(w, policy), _strided(h, policy))
    w, h = _grid_size(policy, width, height)
    across, down = _window_counts(policy, w, h)
    return Grid(w, h, policy.size, _spread(w, policy.size, across), _spread(h, policy.size, down))


def _grid_size(policy: CropPolicy, width: int, height: int) -> tuple[int, int]:
    size = policy.size
    scale = min(1.0, (policy.max_side or math.inf) / max(width, height))
    scale = max(scale, size / min(width, height))
    w, h = _scaled(width, height, scale, size)
    while (
        math.ceil(w / size) * math.ceil(h / size) > policy.max_windows
    ):  # not even edge to edge: shrink
        scale *= 0.98
        w, h = _scaled(width, height, scale, size)
        if min(w, h) == size:
            return min(w, policy.max_windows * size), min(h, policy.max_windows * size)
    return w, h


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


def _strided(side: int, policy: CropPolicy) -> tuple[int, ...]:
    return tuple(range(0, side - policy.size + 1, policy.stride))


class CropPlanner:
    """The torch-free half of a scorer: what a request costs, and its crops.

    It knows the checkpoint's crop policy and heads, nothing of its weights, so the API process can
    hold one.
    """

    def __init__(self, config: CheckpointConfig, crop_policy: CropPolicy | None = None) -> None:
        self.config = config
        self.policy = crop_policy or config.crop_policy

    def heads(self, heads: Iterable[Head] | None, *, prompted: bool) -> tuple[Head, ...]:
        """The heads that will be computed: those asked for, or all that the method has
        (consistency: if prompted).

        Raises:
            ValueError: a head that this method lacks, or consistency without a prompt.
        """
        if heads is None:
            return tuple(head for head in self.config.heads if head != "consistency" or prompted)
        wanted = tuple(dict.fromkeys(heads))
        for head in wanted:
            if head not in self.config.heads:
                own = ", ".join(self.config.heads)
                raise ValueError(f"{self.config.name} has no head {head!r}; it has {own}")
            if head == "consistency" and not prompted:
                raise ValueError("consistency needs the prompt that the image was generated from")
        if not wanted:
            raise ValueError(f"ask for at least one head of {', '.join(self.config.heads)}")
        return wanted

    def plan(self, width: int, height: int, heads: Sequence[Head]) -> int:
        """The cost in rows of a ``width`` x ``height`` image, from its header alone."""
        return len(self.layout(width, height, heads).row_crop)

    def layout(self, width: int, height: int, heads: Sequence[Head]) -> Layout:
        """The rows behind ``plan``: pass by pass, windows first, the global view last."""
        grid = place_windows(self.policy, width, height)
        return self.rows_of(len(grid.xs) * len(grid.ys), heads)

    def rows_of(self, windows: int, heads: Sequence[Head]) -> Layout:
        """The layout of an image with that many windows."""
        globals_ = {p: self.global_in(p, heads) for p in self.passes(heads)}
        rows = [(crop, p) for p, extra in globals_.items() for crop in range(windows + extra)]
        crops = windows + any(globals_.values())
        return Layout(windows, crops, tuple(crop for crop, _ in rows), tuple(p for _, p in rows))

    def passes(self, heads: Sequence[Head]) -> tuple[int, ...]:
        """Which vision passes the heads need: quality reads one, alignment and consistency share
        the other.
        """
        passes = (QUALITY_PASS,) if "quality" in heads else ()
        return (*passes, ALIGNMENT_PASS) if {"alignment", "consistency"} & set(heads) else passes

    def global_in(self, pass_: int, heads: Sequence[Head]) -> bool:
        """Whether that pass also looks at the whole image squashed to one crop."""
        return self.policy.global_view or (pass_ == ALIGNMENT_PASS and "consistency" in heads)

    def crops(self, image: Image.Image, heads: Sequence[Head] | None = None) -> np.ndarray:
        """uint8 [n, 3, h, w]: the windows, then the global view where the heads need one (None: all
        heads).
        """
        layout = self.layout(*image.size, heads or self.config.heads)
        out = np.empty((layout.crops, 3, self.policy.size, self.policy.size), np.uint8)
        self.cut(image, out)
        return out

    def cut(self, image: Image.Image, out: np.ndarray) -> None:
        """Writes the crops into ``out`` uint8 [n, 3, h, w] (shared memory, say), one more than
        windows: global view.
        """
        grid, size = place_windows(self.policy, *image.size), self.policy.size
        whole = image
        if image.size != (grid.width, grid.height):
            whole = image.resize((grid.width, grid.height), Image.Resampling.BICUBIC)
        pixels = np.asarray(whole)
        for i, (x, y) in enumerate(grid.windows):
            out[i] = pixels[y : y + size, x : x + size].transpose(2, 0, 1)
        if len(out) > len(grid.windows):
            out[len(grid.windows)] = squash(image, size)

    def is_scaled(self, width: int, height: int) -> bool:
        """Whether the windows see the image at another than its native size."""
        grid = place_windows(self.policy, width, height)
        return (grid.width, grid.height) != (width, height)


def squash(image: Image.Image, size: int) -> np.ndarray:
    """The whole image as uint8 [3, size, size], antialiased bicubic, aspect ratio given up."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
