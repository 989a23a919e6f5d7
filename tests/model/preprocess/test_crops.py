"""The grid's windows, and what every policy's windows cost and hold."""

import importlib
import itertools
import pickle
import random
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from model.config import CropPolicy, Head
from model.preprocess.crops import ALIGNMENT_PASS, QUALITY_PASS, CropPlanner, gather, squash
from model.preprocess.windows import Grid, place_windows
from model.scorer import Scorer
from tests.model import tiny

GRID = CropPolicy()
BUNDLED = CropPolicy(max_side=1024)
OFFICIAL = CropPolicy.official()

HEADS: dict[str, tuple[Head, ...]] = {
    "quality": ("quality",),
    "alignment": ("alignment",),
    "consistency": ("consistency",),
    "quality-alignment": ("quality", "alignment"),
    "alignment-consistency": ("alignment", "consistency"),
    "all": ("quality", "alignment", "consistency"),
}
every_heads = pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
with_and_without_global_view = pytest.mark.parametrize(
    "global_view", [False, True], ids=["windows-only", "global-view"]
)


def sweep(count: int, seed: int, aspect: int = 50) -> list[tuple[int, int]]:
    """Random sizes from a pixel to 20 megapixels, none of them over ``aspect`` : 1."""
    draw = random.Random(seed)
    sizes: list[tuple[int, int]] = []
    while len(sizes) < count:
        long = round(2 ** draw.uniform(0, 13))
        short = max(1, round(long / draw.uniform(1, aspect)))
        if long <= aspect * short and long * short < 20e6:
            sizes.append((long, short) if draw.random() < 0.5 else (short, long))
    return sizes


EXTREMES = [
    (1, 1),
    (1, 3),
    (3, 1),
    (1, 50),
    (50, 1),
    (223, 224),
    (224, 224),
    (225, 224),
    (224, 368),
    (224, 11200),
    (11200, 224),
    (100, 5000),
    (9000, 180),
    (10000, 10000),
]
POLICIES = {
    "grid": GRID,
    "bundled": BUNDLED,
    "few-windows": CropPolicy(max_windows=5),
    "one-window": CropPolicy(max_windows=1),
    "small-crops": CropPolicy(size=64, stride=50, max_side=300),
}
every_grid = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [
        (224, 224, 1),
        (225, 224, 2),
        (368, 224, 2),
        (369, 224, 3),
        (512, 512, 9),
        (768, 512, 15),
        (1024, 1024, 49),
        (100, 100, 1),
    ],
)
def test_a_grid_has_a_window_per_stride_and_one_more(width: int, height: int, count: int) -> None:
    assert len(place_windows(GRID, width, height).windows) == count


def starts_of(grid: Grid) -> tuple[list[int], list[int]]:
    """Where the windows begin along x and along y; every pair of them is a window."""
    xs, ys = (sorted({corner[axis] for corner in grid.windows}) for axis in (0, 1))
    assert sorted(grid.windows) == sorted(itertools.product(xs, ys))
    return xs, ys


def covered(starts: Sequence[int], size: int, side: int) -> bool:
    """Whether sorted windows of ``size`` leave no gap between 0 and ``side``, and stay inside."""
    gapless = all(b - a <= size for a, b in itertools.pairwise(starts))
    return starts[0] == 0 and starts[-1] + size == side and gapless


@every_grid
def test_a_grid_covers_every_pixel_with_few_enough_windows(policy: CropPolicy) -> None:
    for width, height in [*EXTREMES, *sweep(400, seed=1)]:
        grid = place_windows(policy, width, height)
        xs, ys = starts_of(grid)
        assert grid.window == (policy.size, policy.size), (width, height)
        assert covered(xs, policy.size, grid.width), (width, height)
        assert covered(ys, policy.size, grid.height), (width, height)
        assert 1 <= len(grid.windows) <= policy.max_windows, (width, height)


def test_windows_of_a_grid_are_evenly_spaced() -> None:
    for width, height in sweep(200, seed=2):
        grid = place_windows(GRID, width, height)
        for starts in starts_of(grid):
            steps = {b - a for a, b in itertools.pairwise(starts)}
            assert not steps or max(steps) - min(steps) <= 1, (width, height)


@every_grid
def test_a_grid_keeps_the_aspect_ratio(policy: CropPolicy) -> None:
    for width, height in sweep(200, seed=3, aspect=4 if policy.max_windows < 9 else 50):
        grid = place_windows(policy, width, height)
        if min(grid.width, grid.height) == policy.size and policy.max_windows < 9:
            continue  # so few windows can't hold it
        ratio = (grid.width / grid.height) / (width / height)
        rounding = 0.51 / min(grid.width, grid.height) + 0.51 / max(grid.width, grid.height)
        assert abs(ratio - 1) <= 1.1 * rounding, (width, height)


@every_grid
def test_boxes_lie_in_the_original_and_cover_it(policy: CropPolicy) -> None:
    for width, height in [*EXTREMES, *sweep(300, seed=4)]:
        boxes = place_windows(policy, width, height).boxes(width, height)
        for axis, side in ((0, width), (1, height)):
            spans = sorted({(box[axis], box[axis] + box[axis + 2]) for box in boxes})
            assert spans[0][0] == 0, (width, height)
            assert max(end for _, end in spans) == side, (width, height)
            reach = 0
            for start, end in spans:
                assert start <= reach, (width, height)
                reach = max(reach, end)


@every_grid
def test_no_box_is_empty(policy: CropPolicy) -> None:
    for width, height in [*EXTREMES, *sweep(300, seed=5)]:
        boxes = place_windows(policy, width, height).boxes(width, height)
        assert all(w >= 1 and h >= 1 for _, _, w, h in boxes), (width, height)


def test_boxes_at_native_size_are_the_windows() -> None:
    grid = place_windows(GRID, 600, 400)
    assert grid.boxes(600, 400) == [(x, y, 224, 224) for x, y in grid.windows]


def test_boxes_of_a_scaled_image_are_in_pixels_of_the_original() -> None:
    assert place_windows(BUNDLED, 2048, 2048).boxes(2048, 2048)[0] == (0, 0, 448, 448)
    assert place_windows(GRID, 112, 112).boxes(112, 112) == [(0, 0, 112, 112)]


def test_windows_go_row_by_row() -> None:
    windows = tuple(place_windows(GRID, 512, 368).windows)
    assert windows == ((0, 0), (144, 0), (288, 0), (0, 144), (144, 144), (288, 144))


@pytest.mark.parametrize(
    ("size", "placed"),
    [
        ((100, 100), (224, 224)),
        ((100, 300), (224, 672)),
        ((1, 1), (224, 224)),
        ((223, 500), (224, 502)),
        ((224, 224), (224, 224)),
    ],
)
@pytest.mark.parametrize("policy", [GRID, OFFICIAL], ids=["grid", "official"])
def test_a_side_under_the_crop_size_is_scaled_up(
    policy: CropPolicy, size: tuple[int, int], placed: tuple[int, int]
) -> None:
    grid = place_windows(policy, *size)
    assert (grid.width, grid.height) == placed
    assert grid.is_scaled(*size) is (size != placed)


@pytest.mark.parametrize(
    ("size", "placed"),
    [
        ((2048, 2048), (1024, 1024)),
        ((2000, 1000), (1024, 512)),
        ((1000, 2000), (512, 1024)),
        ((1024, 700), (1024, 700)),
        ((1025, 1025), (1024, 1024)),
        ((4000, 400), (2240, 224)),  # the shorter side still has to hold a window
    ],
)
def test_max_side_reduces_the_longer_side(size: tuple[int, int], placed: tuple[int, int]) -> None:
    grid = place_windows(BUNDLED, *size)
    assert (grid.width, grid.height) == placed
    assert grid.is_scaled(*size) is (size != placed)


@pytest.mark.parametrize(
    ("size", "across", "down"),
    [((512, 512), 5, 5), ((600, 400), 6, 3), ((224, 224), 1, 1), ((287, 288), 1, 2)],
)
def test_official_windows_stand_at_stride_64_from_the_top_left(
    size: tuple[int, int], across: int, down: int
) -> None:
    grid = place_windows(OFFICIAL, *size)
    assert (grid.width, grid.height) == size
    wanted = [(64 * i, 64 * j) for j in range(down) for i in range(across)]
    assert list(grid.windows) == wanted


@every_heads
@with_and_without_global_view
@pytest.mark.parametrize("kind", ["grid", "official"])
def test_the_plan_is_what_layout_crops_and_forward_give(
    kind: str, global_view: bool, heads: tuple[Head, ...], scorer: Scorer
) -> None:
    policy = CropPolicy.official() if kind == "official" else CropPolicy()
    planner = CropPlanner(tiny.config_of(), policy.model_copy(update={"global_view": global_view}))
    for width, height in [(224, 224), (300, 290), (100, 260)]:
        layout = planner.layout(width, height, heads)
        crops = planner.crops(tiny.picture(width, height), heads)
        rows = scorer.forward(crops, layout.row_crop, layout.row_pass)
        assert layout.cost == layout.rows == len(rows)
        assert layout.shape == (224, 224)
        assert (layout.array_shape, layout.nbytes) == (crops.shape, crops.nbytes)
        assert len(crops) == layout.crops == max(layout.row_crop) + 1
        assert len(layout.row_pass) == len(layout.row_crop)


@pytest.mark.parametrize(
    ("heads", "global_view", "quality_rows", "alignment_rows"),
    [
        (("quality",), False, [0, 1], []),
        (("quality",), True, [0, 1, 2], []),
        (("alignment",), False, [], [0, 1]),
        (("alignment", "quality"), False, [0, 1], [0, 1]),
        (("quality", "consistency"), False, [0, 1], [0, 1, 2]),
        (("consistency",), False, [], [0, 1, 2]),
        (("quality", "alignment", "consistency"), True, [0, 1, 2], [0, 1, 2]),
    ],
)
def test_rows_go_pass_by_pass_with_the_global_view_last(
    heads: tuple[Head, ...],
    global_view: bool,
    quality_rows: list[int],
    alignment_rows: list[int],
) -> None:
    planner = CropPlanner(tiny.config_of(), CropPolicy(global_view=global_view))
    layout = planner.layout(300, 224, heads)
    assert layout.windows == 2
    assert list(zip(layout.row_pass, layout.row_crop, strict=True)) == [
        *((QUALITY_PASS, crop) for crop in quality_rows),
        *((ALIGNMENT_PASS, crop) for crop in alignment_rows),
    ]


@pytest.mark.parametrize(
    ("shape", "row_cost"),
    [((224, 224), 1), ((224, 225), 2), ((448, 448), 4), ((1000, 224), 5), ((600, 1000), 12)],
)
def test_a_row_costs_its_area_in_rows_of_the_policys_size_rounded_up(
    shape: tuple[int, int], row_cost: int
) -> None:
    planner = CropPlanner(tiny.config_of(), CropPolicy.whole())
    layout = planner.layout(*shape[::-1], ("quality", "alignment"))
    assert (layout.shape, layout.row_cost, layout.cost) == (shape, row_cost, 2 * row_cost)


def test_a_plan_chooses_the_heads_as_score_does() -> None:
    planner = CropPlanner(tiny.config_of())
    assert planner.plan(224, 224).heads == ("quality", "alignment")
    assert planner.plan(224, 224, prompt="").heads == ("quality", "alignment")
    assert planner.plan(224, 224, prompt="a cat").heads == ("quality", "alignment", "consistency")
    with pytest.raises(ValueError, match="needs the prompt"):
        planner.plan(224, 224, ("consistency",))


def test_a_layout_is_small_when_it_travels() -> None:
    layout = CropPlanner(tiny.config_of(), GRID).plan(1024, 1024, prompt="a cat")
    pickled = pickle.dumps(layout)
    assert pickle.loads(pickled) == layout
    assert len(pickled) < 1000


def test_gather_joins_the_crops_that_the_rows_need_and_renumbers_them() -> None:
    planner = CropPlanner(tiny.config_of(), GRID)
    layout = planner.plan(300, 224, ("quality", "alignment"))  # two windows in two passes
    one, other = (planner.cut(tiny.picture(300, 224, seed), layout) for seed in (1, 2))
    parts = [(layout, one, slice(3, 4)), (layout, other, slice(1, 3))]
    crops, row_crop, row_pass = gather(parts, np.concatenate)
    assert np.array_equal(crops, [one[1], other[0], other[1]])
    assert (row_crop, row_pass) == ([0, 2, 1], [1, 0, 1])


def test_gather_copies_crops_that_lie_in_memory_of_another() -> None:
    """The worker sees the shared memory read-only, which torch warns about."""
    planner = CropPlanner(tiny.config_of(), GRID)
    layout = planner.plan(300, 224, ("quality", "alignment"))
    stored = planner.cut(tiny.picture(300, 224), layout)
    stored.flags.writeable = False
    crops, row_crop, row_pass = gather([(layout, stored, slice(None))], np.concatenate)
    assert crops.flags.writeable
    assert np.array_equal(crops, stored)
    assert (tuple(row_crop), tuple(row_pass)) == (layout.row_crop, layout.row_pass)


@with_and_without_global_view
def test_crops_hold_the_pixels_of_their_windows(global_view: bool) -> None:
    image = tiny.picture(400, 300)
    planner = CropPlanner(tiny.config_of(), CropPolicy(global_view=global_view))
    crops = planner.crops(image, ("quality",))
    pixels = np.asarray(image)
    grid = place_windows(planner.policy, 400, 300)
    assert crops.dtype == np.uint8
    assert crops.shape == (len(grid.windows) + global_view, 3, 224, 224)
    for crop, (x, y) in zip(crops, grid.windows, strict=False):
        assert np.array_equal(crop, pixels[y : y + 224, x : x + 224].transpose(2, 0, 1))
    if global_view:
        assert np.array_equal(crops[-1], squash(image, 224))


def test_crops_of_a_scaled_image_come_from_one_bicubic_resize() -> None:
    image = tiny.picture(2000, 1000)
    crops = CropPlanner(tiny.config_of(), BUNDLED).crops(image, ("quality",))
    resized = np.asarray(image.resize((1024, 512), Image.Resampling.BICUBIC))
    assert np.array_equal(crops[0], resized[:224, :224].transpose(2, 0, 1))
    assert np.array_equal(crops[-1], resized[-224:, -224:].transpose(2, 0, 1))


def test_crops_of_liqe_come_from_one_bilinear_resize_as_torchvision_s() -> None:
    transforms = importlib.import_module("torchvision.transforms")
    image = tiny.picture(1500, 1000)
    planner = CropPlanner(tiny.config_of(heads=("quality",)), CropPolicy.liqe())
    crops = planner.crops(image, ("quality",))
    resized = np.asarray(transforms.Resize(768)(image))
    assert resized.shape == (768, 1152, 3)
    windows = place_windows(planner.policy, 1500, 1000).windows
    for crop, (x, y) in zip(crops, windows, strict=True):
        assert np.array_equal(crop, resized[y : y + 224, x : x + 224].transpose(2, 0, 1))


def test_the_global_view_is_the_whole_image_squashed() -> None:
    halves = Image.new("RGB", (900, 300), "black")
    halves.paste("white", (450, 0, 900, 300))
    view = squash(halves, 224)
    assert view.shape == (3, 224, 224)
    assert (view[:, :, :108] == 0).all()
    assert (view[:, :, 116:] == 255).all()


def test_cut_fills_memory_that_the_caller_owns() -> None:
    image = tiny.picture(300, 224)
    planner = CropPlanner(tiny.config_of(), GRID)
    block = np.full((4, 3, 224, 224), 7, np.uint8)
    planner.cut(image, planner.plan(300, 224, ("quality",)), block[1:3])
    assert np.array_equal(block[1:3], planner.crops(image, ("quality",)))
    assert (block[[0, 3]] == 7).all()


def test_a_grid_is_placed_without_decoding_anything_large() -> None:
    grid = place_windows(BUNDLED, 10**6, 10**6)
    assert (grid.width, grid.height, len(grid.windows)) == (1024, 1024, 49)
    assert isinstance(grid, Grid)
