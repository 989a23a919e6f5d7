"""Where the other crop policies than ``grid`` place their windows, and what they all share."""

import itertools
import math
import pickle
import random
import tracemalloc
from dataclasses import replace

import pytest
from pydantic import ValidationError

from model.config import CROP_POLICIES, CropPolicy
from model.methods.policy import choose_policy
from model.preprocess.windows import Crossed, Grid, place_windows
from tests.model import tiny

LIQE = CropPolicy.liqe()
RANDOM = CropPolicy.random()
POLICIES = {
    "grid": CropPolicy(),
    "official": CropPolicy.official(),
    "liqe": LIQE,
    "random": RANDOM,
    "whole": CropPolicy.whole(),
}
every_kind = pytest.mark.parametrize("kind", CROP_POLICIES)


def sizes(count: int, seed: int) -> list[tuple[int, int]]:
    """Random sizes between 1 and 4096 pixels a side, some of them under the crop size."""
    draw = random.Random(seed)
    return [
        (round(2 ** draw.uniform(0, 12)), round(2 ** draw.uniform(0, 12))) for _ in range(count)
    ]


def steps(starts: list[int]) -> set[int]:
    return {b - a for a, b in itertools.pairwise(sorted(set(starts)))}


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns", "step"),
    [
        (384, 512, 6, 10, 4),  # 60 windows
        (512, 512, 10, 10, 6),  # 100 windows
        (224, 224, 1, 1, 1),
        (512, 384, 10, 6, 4),
        (300, 300, 3, 3, 1),  # fewer than fifteen: all of them
        (352, 352, 5, 5, 1),  # 25 windows: the first fifteen
    ],
    ids=lambda value: str(value),
)
def test_liqe_picks_every_nth_window_of_those_at_stride_32(
    height: int, width: int, rows: int, columns: int, step: int
) -> None:
    every = [(32 * column, 32 * row) for row in range(rows) for column in range(columns)]
    picked = [every[i] for i in range(0, len(every), step)][:15]
    grid = place_windows(LIQE, width, height)
    assert grid == Grid(width, height, (224, 224), tuple(picked))


def test_the_picks_of_liqe_are_those_of_its_code() -> None:
    wide, square = place_windows(LIQE, 512, 384).windows, place_windows(LIQE, 512, 512).windows
    assert len(wide) == len(square) == 15
    assert wide[-1] == (6 * 32, 5 * 32)  # number 56 of 60
    assert square[-1] == (4 * 32, 8 * 32)  # number 84 of 100
    assert place_windows(LIQE, 224, 224).windows == ((0, 0),)


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((1023, 600), 32),
        ((1024, 600), 48),
        ((600, 1024), 48),
        ((1024, 768), 48),
        ((600, 1023), 32),
        ((768, 768), 32),
    ],
    ids=str,
)
def test_liqe_strides_48_where_a_side_has_1024_pixels(size: tuple[int, int], stride: int) -> None:
    grid = place_windows(LIQE, *size)
    across, down = ((side - 224) // stride + 1 for side in size)
    step = across * down // 15
    wanted = [(stride * (i % across), stride * (i // across)) for i in range(0, 15 * step, step)]
    assert list(grid.windows) == wanted


@pytest.mark.parametrize(
    ("size", "placed"),
    [
        ((4000, 3000), (1024, 768)),
        ((3000, 4000), (768, 1024)),
        ((1280, 960), (1024, 768)),
        ((1000, 777), (988, 768)),  # 988.4, rounded down as torchvision does
        ((2000, 769), (1997, 768)),
        ((769, 769), (768, 768)),
    ],
    ids=str,
)
def test_liqe_reduces_the_short_side_to_768_and_strides_over_what_is_left(
    size: tuple[int, int], placed: tuple[int, int]
) -> None:
    grid = place_windows(LIQE, *size)
    assert (grid.width, grid.height, grid.bilinear) == (*placed, True)
    assert grid == replace(place_windows(LIQE, *placed), bilinear=True)


@pytest.mark.parametrize("size", [(768, 768), (5000, 768), (767, 2000), (500, 300), (100, 90)])
def test_liqe_leaves_an_image_alone_whose_short_side_has_768_pixels_or_fewer(
    size: tuple[int, int],
) -> None:
    native = LIQE.model_copy(update={"max_short_side": None})
    assert place_windows(LIQE, *size) == place_windows(native, *size)
    assert not place_windows(LIQE, *size).bilinear


def test_windows_over_a_reduced_image_are_told_in_pixels_of_the_original() -> None:
    grid = place_windows(LIQE, 4000, 3000)
    assert len(grid.windows) == 15  # of 17 x 12 at stride 48: every thirteenth
    corner = 13 * 48, 0
    assert list(grid.windows)[1] == corner
    left, across = round(13 * 48 * 4000 / 1024), round((13 * 48 + 224) * 4000 / 1024)
    assert grid.boxes(4000, 3000)[1] == (left, 0, across - left, 875)


def test_a_policy_of_0_5_without_a_short_side_keeps_native_pixels() -> None:
    stored = '{"kind": "liqe", "size": 224, "stride": 32, "max_windows": 15}'
    policy = CropPolicy.model_validate_json(stored)
    grid = place_windows(policy, 4000, 3000)
    assert (grid.width, grid.height, grid.bilinear) == (4000, 3000, False)
    every = [(48 * (i % 79), 48 * (i // 79)) for i in range(79 * 58)]
    assert list(grid.windows) == every[:: 79 * 58 // 15][:15]


def test_the_short_side_can_be_reduced_for_the_other_kinds_of_native_pixels_too() -> None:
    for kind in ("official", "random"):
        reduced = POLICIES[kind].model_copy(update={"max_short_side": 384})
        grid = place_windows(reduced, 1024, 768)
        assert grid == replace(place_windows(POLICIES[kind], 512, 384), bilinear=True)


@pytest.mark.parametrize(
    ("kind", "short", "says"),
    [("grid", 768, "max_side"), ("whole", 768, "max_side"), ("liqe", 200, "no window")],
)
def test_a_short_side_that_can_not_be_reduced_so_is_refused(
    kind: str, short: int, says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        CropPolicy(kind=kind, max_short_side=short)


def test_liqe_takes_fifteen_windows_wherever_there_are_so_many() -> None:
    for width, height in sizes(300, seed=1):
        grid = place_windows(LIQE, width, height)
        stride = 48 if max(grid.width, grid.height) >= 1024 else 32
        there = math.prod((side - 224) // stride + 1 for side in (grid.width, grid.height))
        assert len(grid.windows) == min(15, there), (width, height)
        assert len(set(grid.windows)) == len(grid.windows), (width, height)
        assert all(start % stride == 0 for corner in grid.windows for start in corner)


def test_random_windows_are_eight_and_the_same_for_images_of_one_size() -> None:
    placed = {}
    for size in [(512, 384), (384, 512), (513, 384), (2000, 1000)]:
        grid = place_windows(RANDOM, *size)
        assert place_windows(CropPolicy.random(), *size) == grid
        assert (grid.width, grid.height, grid.window) == (*size, (224, 224))
        assert len(set(grid.windows)) == 8
        placed[tuple(grid.windows)] = size
    assert len(placed) == 4


def test_another_seed_places_other_windows() -> None:
    grids = [place_windows(CropPolicy.random(seed=seed), 512, 512) for seed in range(10)]
    assert len({tuple(grid.windows) for grid in grids}) == 10


def test_random_windows_reach_every_place_where_a_window_fits() -> None:
    corners = [
        corner
        for seed in range(300)
        for corner in place_windows(CropPolicy.random(seed=seed), 230, 226).windows
    ]
    assert {x for x, _ in corners} == set(range(7))
    assert {y for _, y in corners} == set(range(3))
    assert len(set(corners)) == 21  # the two are drawn apart


def test_official_windows_are_all_of_those_at_stride_64() -> None:
    for width, height in sizes(200, seed=2):
        grid = place_windows(POLICIES["official"], width, height)
        xs, ys = ([c[axis] for c in grid.windows] for axis in (0, 1))
        assert steps(xs) | steps(ys) <= {64}, (width, height)
        assert next(iter(grid.windows)) == (0, 0)
        assert grid.width - 64 < max(xs) + 224 <= grid.width, (width, height)
        assert grid.height - 64 < max(ys) + 224 <= grid.height, (width, height)


def test_headers_alone_take_no_memory_whatever_they_claim() -> None:
    tracemalloc.start()
    try:
        grids = [place_windows(POLICIES["official"], 9000 + i, 9999) for i in range(1000)]
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert min(len(grid.windows) for grid in grids) > 20_000
    assert len(pickle.dumps(grids[0])) < 500
    assert kept < 2**20  # a kilobyte each


def test_windows_are_told_by_their_number_as_they_come() -> None:
    windows = place_windows(POLICIES["official"], 512, 368).windows
    assert isinstance(windows, Crossed)
    assert [windows.at(i) for i in range(len(windows))] == list(windows)
    assert (64, 128) in windows
    assert (64, 129) not in windows


@pytest.mark.parametrize(
    ("size", "max_side", "placed"),
    [
        ((512, 384), None, (512, 384)),
        ((4000, 3000), None, (4000, 3000)),
        ((4000, 3000), 1000, (1000, 750)),
        ((3000, 4000), 1000, (750, 1000)),
        ((1000, 900), 1000, (1000, 900)),
        ((4000, 400), 1000, (2240, 224)),  # no side gets shorter than a crop
        ((100, 50), None, (448, 224)),
        ((1, 1), 500, (224, 224)),
    ],
)
def test_a_whole_image_is_one_window(
    size: tuple[int, int], max_side: int | None, placed: tuple[int, int]
) -> None:
    grid = place_windows(CropPolicy.whole(max_side=max_side), *size)
    assert grid == Grid(*placed, placed, ((0, 0),))
    assert grid.boxes(*size) == [(0, 0, *size)]


@every_kind
def test_every_window_lies_inside_the_image(kind: str) -> None:
    for width, height in [(1, 1), (1, 50), (11200, 224), *sizes(200, seed=3)]:
        grid = place_windows(POLICIES[kind], width, height)
        across, down = grid.window
        assert grid.windows, (width, height)
        for x, y in grid.windows:
            assert 0 <= x <= grid.width - across, (width, height)
            assert 0 <= y <= grid.height - down, (width, height)
        for x, y, w, h in grid.boxes(width, height):
            assert x >= 0, (width, height)
            assert y >= 0, (width, height)
            assert w >= 1, (width, height)
            assert h >= 1, (width, height)
            assert x + w <= width, (width, height)
            assert y + h <= height, (width, height)


@pytest.mark.parametrize(
    ("size", "placed"),
    [
        ((100, 100), (224, 224)),
        ((1, 1), (224, 224)),
        ((223, 224), (224, 225)),
        ((100, 150), (224, 336)),
        ((400, 112), (800, 224)),
        ((224, 224), (224, 224)),
    ],
    ids=str,
)
@every_kind
def test_small_images_are_scaled_up_until_a_window_fits(
    kind: str, size: tuple[int, int], placed: tuple[int, int]
) -> None:
    grid = place_windows(POLICIES[kind], *size)
    assert (grid.width, grid.height) == placed
    if placed == (224, 224):  # one place is left: every window sees the whole image
        assert set(grid.windows) == {(0, 0)}
        assert set(grid.boxes(*size)) == {(0, 0, *size)}


@every_kind
def test_images_at_least_as_large_as_a_window_are_not_scaled(kind: str) -> None:
    for width, height in [(224, 224), (224, 900), (512, 512), (767, 1023)]:
        grid = place_windows(POLICIES[kind], width, height)
        assert (grid.width, grid.height) == (width, height)


@every_kind
def test_a_policy_of_another_size_has_windows_of_that_size(kind: str) -> None:
    policy = POLICIES[kind].model_copy(update={"size": 64})
    grid = place_windows(policy, 100, 32)
    assert (grid.width, grid.height) == (200, 64)
    assert grid.window == ((200, 64) if kind == "whole" else (64, 64))


@every_kind
def test_a_policy_is_chosen_by_its_name_with_the_size_of_the_checkpoints_own(kind: str) -> None:
    own = CropPolicy(size=96, stride=7, max_side=500)
    chosen = choose_policy(tiny.config_of(crop_policy=own), kind)
    other = POLICIES[kind].model_copy(update={"size": 96})
    expected = {"grid": own, "whole": CropPolicy.whole(96, max_side=2048)}
    assert chosen == expected.get(kind, other)


def test_a_whole_image_takes_no_global_view_and_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="no global view"):
        CropPolicy(kind="whole", global_view=True)
    with pytest.raises(ValidationError, match="kind"):
        CropPolicy(kind="spiral")
    with pytest.raises(ValueError, match="'spiral': choose grid, official, liqe, random, whole"):
        choose_policy(tiny.config_of(), "spiral")
