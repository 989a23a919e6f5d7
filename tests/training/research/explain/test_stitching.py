"""Where the windows' maps come to lie on the image."""

import numpy as np
import pytest
import torch

from model.config import CropPolicy
from model.preprocess.windows import Grid, place_windows
from training.research.explain.stitching import lay_back, mean_of_windows, stretch

# Two windows of 4 x 6 (width, height) over 10 x 9: top left, and lower right; nothing else is seen.
APART = Grid(10, 9, (4, 6), ((0, 0), (5, 3)))


def flat(*values: float) -> torch.Tensor:
    """Maps [n, 3, 2] of one value each."""
    return torch.tensor(values)[:, None, None].expand(-1, 3, 2)


def test_each_window_lies_where_it_was_cut() -> None:
    laid = mean_of_windows(flat(0.25, 0.5), APART).numpy()
    wanted = np.zeros((9, 10))
    wanted[:6, :4] = 0.25
    wanted[3:, 5:9] = 0.5
    assert laid == pytest.approx(wanted, abs=1e-6)


def test_a_map_is_neither_turned_nor_mirrored() -> None:
    corners = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]], [[0.0, 3.0], [0, 0], [0, 0]]])
    laid = mean_of_windows(corners, APART)
    assert [float(laid[y, x]) for y, x in ((0, 0), (5, 3), (3, 8))] == pytest.approx([1, 2, 3])
    assert [float(laid[y, x]) for y, x in ((0, 3), (5, 0), (3, 5), (8, 8))] == pytest.approx(
        [0] * 4
    )


def test_where_windows_overlap_lies_their_mean_without_a_seam() -> None:
    grid = Grid(150, 100, (100, 100), ((0, 0), (50, 0)))
    row = mean_of_windows(flat(0.0, 1.0), grid)[50]
    assert (row[:50] == 0).all()
    assert (row[100:] == 1).all()
    assert row[49:101].diff().min() > 0
    assert row.diff().max() < 0.04
    assert float(row[74] + row[75]) == pytest.approx(1)


@pytest.mark.parametrize("size", [(224, 224), (900, 300), (260, 400), (100, 60)])
def test_maps_of_one_value_give_that_value_all_over_the_image(size: tuple[int, int]) -> None:
    grid = place_windows(CropPolicy(max_side=512), *size)
    n = len(grid.windows)
    laid = lay_back(flat(*[0.6 / n] * n, 0.4), grid, size)
    assert laid.shape == size[::-1]
    assert laid == pytest.approx(1, abs=1e-5)


def test_what_the_official_policy_never_looks_at_stays_empty() -> None:
    grid = place_windows(CropPolicy.official(), 300, 250)
    laid = lay_back(flat(*[1 / len(grid.windows)] * len(grid.windows)), grid, (300, 250))
    assert laid[:224, :288] == pytest.approx(1, abs=1e-5)
    assert (laid[224:] == 0).all()
    assert (laid[:, 288:] == 0).all()


def test_places_follow_the_image_where_the_windows_saw_it_smaller() -> None:
    grid = place_windows(CropPolicy(max_side=448), 1792, 896)
    assert (grid.width, grid.height) == (448, 224)
    marked = torch.zeros(len(grid.windows), 7, 7)
    marked[0, 1, 0] = 1  # the second row, the first column of the leftmost window
    laid = lay_back(marked, grid, (1792, 896))
    y, x = np.unravel_index(laid.argmax(), laid.shape)
    assert (int(y) // 128, int(x) // 128) == (1, 0)


def test_a_value_lies_in_the_middle_of_its_cell() -> None:
    stretched = stretch(torch.tensor([[[0.0, 1.0]]]), 6, 12)[0]
    assert torch.equal(stretched[0], stretched[5])
    assert stretched[0, :3].tolist() == [0, 0, 0]
    assert stretched[0, 9:].tolist() == [1, 1, 1]
    assert float(stretched[0, 5] + stretched[0, 6]) == pytest.approx(1)
