"""From an image to the rows that the network computes. Needs no torch.

The crop policy places the windows (``model.windows``); a request's rows are (crop, pass) pairs, in
the order pass by pass, windows before the global view.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from model.config import CheckpointConfig, CropPolicy, Head
from model.windows import place_windows

QUALITY_PASS, ALIGNMENT_PASS = 0, 1


@dataclass(frozen=True, slots=True)
class Layout:
    """One request's part of a batch: how many windows, which crops exist, and which (crop, pass)
    rows are computed.

    Crop i < ``windows`` is window i; crop ``windows`` is the global view where ``crops`` counts one
    more. All crops have one ``shape`` (height, width); only rows of equal shape share a batch.
    ``row_cost``: what a row costs, in rows of the policy's own size.
    """

    windows: int
    crops: int
    row_crop: tuple[int, ...]
    row_pass: tuple[int, ...]
    shape: tuple[int, int]
    row_cost: int = 1

    @property
    def cost(self) -> int:
        """What all the rows cost, in rows of the policy's own size."""
        return len(self.row_crop) * self.row_cost


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
        return self.layout(width, height, heads).cost

    def layout(self, width: int, height: int, heads: Sequence[Head]) -> Layout:
        """The rows behind ``plan``: pass by pass, windows first, the global view last."""
        grid = place_windows(self.policy, width, height)
        return self.rows_of(len(grid.windows), heads, grid.window[::-1])

    def rows_of(
        self, windows: int, heads: Sequence[Head], shape: tuple[int, int] | None = None
    ) -> Layout:
        """The layout of an image with that many windows; ``shape`` None: of the policy's size."""
        shape = shape or (self.policy.size, self.policy.size)
        globals_ = {p: self.global_in(p, heads) for p in self.passes(heads)}
        rows = [(crop, p) for p, extra in globals_.items() for crop in range(windows + extra)]
        crops = windows + any(globals_.values())
        row_crop, row_pass = tuple(crop for crop, _ in rows), tuple(p for _, p in rows)
        cost = math.ceil(math.prod(shape) / self.policy.size**2)
        return Layout(windows, crops, row_crop, row_pass, shape, cost)

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
        out = np.empty((layout.crops, 3, *layout.shape), np.uint8)
        self.cut(image, out)
        return out

    def cut(self, image: Image.Image, out: np.ndarray) -> None:
        """Writes the crops into ``out`` uint8 [n, 3, h, w] (shared memory, say), one more than
        windows: global view.
        """
        grid = place_windows(self.policy, *image.size)
        across, down = grid.window
        whole = image
        if image.size != (grid.width, grid.height):
            whole = image.resize((grid.width, grid.height), Image.Resampling.BICUBIC)
        pixels = np.asarray(whole)
        for i, (x, y) in enumerate(grid.windows):
            out[i] = pixels[y : y + down, x : x + across].transpose(2, 0, 1)
        if len(out) > len(grid.windows):
            out[len(grid.windows)] = squash(image, self.policy.size)

    def is_scaled(self, width: int, height: int) -> bool:
        """Whether the windows see the image at another than its native size."""
        grid = place_windows(self.policy, width, height)
        return (grid.width, grid.height) != (width, height)


def squash_pixels(pixels: np.ndarray, size: int) -> np.ndarray:
    """``squash`` of decoded pixels, uint8 [h, w, 3]."""
    return squash(Image.fromarray(pixels), size)


def squash(image: Image.Image, size: int) -> np.ndarray:
    """The whole image as uint8 [3, size, size], antialiased bicubic, aspect ratio given up."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
