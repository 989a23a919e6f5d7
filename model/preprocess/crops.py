"""From an image to the rows that the network computes. Needs no torch.

The crop policy places the windows (``model.preprocess.windows``); a request's rows are (crop, pass)
pairs, in the order pass by pass, windows before the global view.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from model.config import CheckpointConfig, CropPolicy, Head
from model.preprocess.windows import Grid, file_digest, for_file, hangs_on_file, place_windows

if TYPE_CHECKING:
    from PIL import Image

Joined = TypeVar("Joined")

QUALITY_PASS, ALIGNMENT_PASS = 0, 1
# PIL.Image.Resampling; Pillow is loaded only where pixels are.
_BILINEAR, _BICUBIC = 2, 3
# The vision pass that each head reads; alignment and consistency share one.
PASSES: Mapping[Head, int] = {
    "quality": QUALITY_PASS,
    "alignment": ALIGNMENT_PASS,
    "consistency": ALIGNMENT_PASS,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Which (crop, pass) rows an image is scored from. Made once, from the image's header; it goes
    with the rows to where they are reduced, so it is small when pickled.

    Crop i < ``windows`` is window i of the ``grid``; crop ``windows`` is the global view where
    ``crops`` counts one more. ``passes`` holds (pass, how many crops it looks at). ``row_cost``:
    what a row costs, in rows of the policy's own size.
    """

    grid: Grid
    heads: tuple[Head, ...]
    passes: tuple[tuple[int, int], ...]
    row_cost: int = 1

    @property
    def windows(self) -> int:
        """How many windows the grid has."""
        return len(self.grid.windows)

    @property
    def crops(self) -> int:
        """The windows, and the global view where a pass looks at it."""
        return max(count for _, count in self.passes)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(count for _, count in self.passes)

    @property
    def row_crop(self) -> tuple[int, ...]:
        """The crop of each row."""
        return tuple(crop for _, count in self.passes for crop in range(count))

    @property
    def row_pass(self) -> tuple[int, ...]:
        """The pass of each row."""
        return tuple(pass_ for pass_, count in self.passes for _ in range(count))

    @property
    def cost(self) -> int:
        """What all the rows cost, in rows of the policy's own size."""
        return self.rows * self.row_cost

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of every crop; only rows of equal shape share a batch."""
        return self.grid.window[::-1]

    @property
    def array_shape(self) -> tuple[int, int, int, int]:
        """Of all the crops as one array: [n, 3, h, w]."""
        return (self.crops, 3, *self.shape)

    @property
    def nbytes(self) -> int:
        """What the crops take as uint8."""
        return math.prod(self.array_shape)


class CropPlanner:
    """The torch-free half of a scorer: what a request costs, and its crops.

    It knows the checkpoint's crop policy and heads, nothing of its weights, so the API process can
    hold one.
    """

    def __init__(self, config: CheckpointConfig, crop_policy: CropPolicy | None = None) -> None:
        self.config = config
        self.policy = crop_policy or config.crop_policy

    def for_file(self, data: bytes) -> "CropPlanner":
        """The planner for the image in a file: where the policy's windows lie may hang on it, how
        many there are does not.
        """
        if not hangs_on_file(self.policy):
            return self
        return CropPlanner(self.config, for_file(self.policy, file_digest(data)))

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

    def plan(
        self,
        width: int,
        height: int,
        heads: Iterable[Head] | None = None,
        prompt: str | None = None,
    ) -> Layout:
        """The rows of a ``width`` x ``height`` image and their cost, from its header alone.

        Raises:
            ValueError: as ``heads``.
        """
        return self.layout(width, height, self.heads(heads, prompted=bool(prompt)))

    def layout(self, width: int, height: int, heads: Sequence[Head]) -> Layout:
        """``plan`` for heads that are chosen: pass by pass, windows first, the global view last."""
        grid = place_windows(self.policy, width, height)
        windows = len(grid.windows)
        # Heads that share a pass share its global view, if one of them counts it.
        whole = {PASSES[head] for head in heads if self.counts_global_view(head)}
        passes = tuple((p, windows + (p in whole)) for p in sorted({PASSES[h] for h in heads}))
        row_cost = math.ceil(math.prod(grid.window) / self.policy.size**2)
        return Layout(grid, tuple(heads), passes, row_cost)

    def counts_global_view(self, head: Head) -> bool:
        """Whether the head also reads the whole image squashed to one crop. A grid of one window is
        that already.
        """
        if self.policy.kind == "grid" and self.policy.max_windows == 1:
            return False
        return self.policy.global_view or head == "consistency"

    def crops(self, image: "Image.Image", heads: Sequence[Head] | None = None) -> np.ndarray:
        """uint8 [n, 3, h, w]: the windows, then the global view where the heads need one (None: all
        heads).
        """
        return self.cut(image, self.layout(*image.size, heads or self.config.heads))

    def cut(
        self, image: "Image.Image", layout: Layout, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The crops of the image that the layout is for, uint8 [n, 3, h, w], written into ``out``
        (shared memory, say) where it is there.
        """
        crops = np.empty(layout.array_shape, np.uint8) if out is None else out
        cut(image, layout, crops)
        return crops


def cut(image: "Image.Image", layout: Layout, out: np.ndarray) -> None:
    """Writes the crops of the image that the layout is for, into ``out``, uint8
    [n, 3, h, w]: the windows, then the global view, which is as large as one of them.
    """
    grid = layout.grid
    across, down = grid.window
    pixels = pixels_of(image, grid)
    for i, (x, y) in enumerate(grid.windows):
        out[i] = pixels[y : y + down, x : x + across].transpose(2, 0, 1)
    if layout.crops > layout.windows:
        out[layout.windows] = squash(image, across)


def pixels_of(image: "Image.Image", grid: Grid) -> np.ndarray:
    """uint8 [h, w, 3] of the image at the size that the grid's windows lie in."""
    if grid.is_scaled(*image.size):
        filter_ = _BILINEAR if grid.bilinear else _BICUBIC
        image = image.resize((grid.width, grid.height), filter_)
    return np.asarray(image)


def gather(
    parts: Iterable[tuple[Layout, np.ndarray, slice]],
    join: Callable[[list[np.ndarray]], Joined] = np.concatenate,  # type: ignore[assignment]
) -> tuple[Joined, list[int], list[int]]:
    """The arguments of one ``forward`` for rows of several images: the crops that the rows need,
    copied and joined, then each row's place among them and its pass.

    Args:
        parts: of each image its layout, its crops, and which of its rows; crops of one shape.
        join: copies crops uint8 [n, 3, h, w] behind each other, wherever.
    """
    joined: list[np.ndarray] = []
    row_crop: list[int] = []
    row_pass: list[int] = []
    base = 0
    for layout, crops, rows in parts:
        used, order = np.unique(layout.row_crop[rows], return_inverse=True)
        joined.append(crops if len(used) == len(crops) else crops[used])
        row_crop += (base + order).tolist()
        row_pass += layout.row_pass[rows]
        base += len(used)
    return join(joined), row_crop, row_pass


def squash_pixels(pixels: np.ndarray, size: int) -> np.ndarray:
    """``squash`` of decoded pixels, uint8 [h, w, 3]."""
    from PIL import Image  # the API process plans crops without Pillow

    return squash(Image.fromarray(pixels), size)


def squash(image: "Image.Image", size: int) -> np.ndarray:
    """The whole image as uint8 [3, size, size], antialiased bicubic, aspect ratio given up."""
    return np.asarray(image.resize((size, size), _BICUBIC)).transpose(2, 0, 1)
