"""Weights that are no numbers are refused, in whatever type a file holds them."""

import math

import pytest
import torch

from model.clip.weights import load_strictly
from model.errors import CheckpointError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_that_is_no_number_is_refused(value: float, place: int, dtype: torch.dtype) -> None:
    weights = torch.linspace(-3, 3, 7)
    weights[place] = value
    with pytest.raises(CheckpointError, match="the tensor bias holds values that are no numbers"):
        load_strictly({"bias": torch.zeros(7)}, {"bias": weights.to(dtype)})


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.bool], ids=str)
def test_numbers_of_any_type_are_taken(dtype: torch.dtype) -> None:
    own = torch.zeros(2)
    load_strictly({"bias": own}, {"bias": torch.tensor([1, 0]).to(dtype)})
    assert own.tolist() == [1, 0]


def test_a_tensor_without_values_is_taken() -> None:
    own = {"bias": torch.zeros(0)}
    load_strictly(own, {"bias": torch.zeros(0)})
    assert own["bias"].shape == (0,)


def test_the_largest_numbers_are_numbers() -> None:
    most = torch.finfo(torch.float32).max
    own = torch.zeros(4)
    load_strictly({"bias": own}, {"bias": torch.full((4,), most)})
    assert own.tolist() == [most] * 4
