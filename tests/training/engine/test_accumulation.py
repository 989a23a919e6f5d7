"""Steps that keep less for the backward pass give the gradient of those that keep all."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from model.clip.towers import recomputed_layers
from tests.training.engine.live_memory import LiveMemory
from tests.training.engine.regression import Regression, run_of
from tests.training.engine.steps import METHODS, batch_of, objective, run_step
from training.engine.task import Step
from training.errors import TrainingError

every_method = pytest.mark.parametrize("method", METHODS)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal up to rounding of float32, against the largest gradient."""
    assert one.keys() == other.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=2e-6 * largest, msg=name)


@every_method
@pytest.mark.parametrize("degraded", [0, 2], ids=["clean", "degraded"])
@pytest.mark.parametrize("parts", [2, 3, 100], ids=["even", "uneven", "image by image"])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(
    method: str, degraded: int, parts: int
) -> None:
    task = objective(method)
    batch = batch_of(task, 8, windows=2, degraded=degraded)
    close(run_step(Step(task), batch), run_step(Step(task, parts), batch))


@every_method
@pytest.mark.parametrize("parts", [1, 3])
def test_recomputed_layers_give_the_same_gradient(method: str, parts: int) -> None:
    task = objective(method)
    batch = batch_of(task, 6)
    expected = run_step(Step(task), batch)
    with recomputed_layers():
        found = run_step(Step(task, parts), batch)
    close(expected, found)


def peak(parts: int, *, recompute: bool) -> int:
    """Most bytes at once in a step of MP-IQE on eight layers, beside the weights."""
    task = objective("mp-iqe", whole=False, layers=8, width=64)
    batch = batch_of(task, 48)
    step = Step(task, parts)
    with LiveMemory() as memory, recomputed_layers() if recompute else nullcontext():
        run_step(step, batch)
    return memory.peak


def test_parts_and_recomputed_layers_take_less_memory() -> None:
    whole = peak(1, recompute=False)
    assert peak(4, recompute=False) < 0.4 * whole
    assert peak(1, recompute=True) < 0.5 * whole
    assert peak(4, recompute=True) < 0.25 * whole


@pytest.mark.parametrize("setting", [{"accumulate": 2}, {"checkpoint_activations": True}], ids=str)
def test_a_run_in_parts_ends_with_the_weights_of_a_whole_one(
    tmp_path: Path, setting: dict[str, int]
) -> None:
    whole, parts = Regression(noise=0.1), Regression(noise=0.1)
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    run_of(tmp_path / "whole", whole).fit()
    run_of(tmp_path / "parts", parts, **setting).fit()
    for name, value in whole.weights().items():
        torch.testing.assert_close(parts.weights()[name], value)


class Counting(Regression):
    def buffers(self) -> dict[str, torch.Tensor]:
        return {"mean": torch.zeros(1)}


def test_statistics_of_a_batch_are_not_taken_in_parts(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"schedule\.accumulate to 1, and schedule\.check"):
        run_of(tmp_path, Counting(), accumulate=2).fit()
